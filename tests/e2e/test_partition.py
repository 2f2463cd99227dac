"""The network between the trackers and an encoder is cut during a propagation."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from maskmesh import AsyncClient, FrameMasks, VideoSession
from maskmesh.cli.mesh.local_mesh import MeshOptions
from tests.mesh import Mesh, running_mesh
from tests.proxy import Proxy, running_proxy
from tests.redis_server import needs_redis, running_redis

pytestmark = needs_redis

FRAMES = 24
CUT_SECONDS = 3.5  # longer than a silent encoder is waited for


@pytest.fixture(scope="module")
async def network() -> AsyncIterator[Proxy]:
    async with running_proxy() as proxy:
        yield proxy


@pytest.fixture(scope="module", params=["with a store", "without"])
async def mesh(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, network: Proxy
) -> AsyncIterator[Mesh]:
    """The trackers reach the encoder only through the proxy; the gateway reaches all services directly."""
    flags = {
        "encoder": ["--advertise", f"127.0.0.1:{network.port}"],
        "tracker": ["--shared-memory-dir", ""],
    }
    options = MeshOptions(trackers=2, flags=flags)
    async with (
        running_redis(tmp_path_factory.mktemp("redis")) as store,
        running_mesh(
            tmp_path_factory.mktemp("traces"),
            options,
            MASKMESH_SESSION_URL=store.url if request.param == "with a store" else "",
        ) as running,
    ):
        network.target = running.local.ports["encoder"]
        yield running


async def prompt(session: VideoSession, clip: Path) -> None:
    await session.append_video(clip)
    await session.add_prompt(0, 1, points=[(110, 262)])


async def test_no_frame_is_lost_if_the_encoder_is_unreachable(
    mesh: Mesh, network: Proxy, fresh_clip: Path
) -> None:
    async with AsyncClient(mesh.endpoint, timeout=60) as client:
        async with client.session() as session:
            await prompt(session, fresh_clip)
            before = network.passed
            frames: list[FrameMasks] = []
            longest, last = 0.0, time.monotonic()
            healing = None
            async for frame in session.propagate(max_frames=FRAMES):
                longest = max(longest, time.monotonic() - last)
                frames.append(frame)
                if len(frames) == 9:
                    assert network.passed > before  # embeddings pass through the proxy
                    network.cut()
                    healing = asyncio.get_running_loop().call_later(CUT_SECONDS, network.heal)
                last = time.monotonic()
            assert healing is not None
        async with client.session() as session:
            await prompt(session, fresh_clip)
            undisturbed = [frame async for frame in session.propagate(max_frames=FRAMES)]
    print(f"\ncut for {CUT_SECONDS:.0f} s: the longest wait was {longest:.2f} s")
    assert [f.frame_index for f in frames] == list(range(FRAMES))
    assert [f.objects for f in frames] == [f.objects for f in undisturbed]
