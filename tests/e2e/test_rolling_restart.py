"""All services are restarted one by one under load, from the previous version to this one."""

import asyncio
import itertools
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Self

import pytest

from maskmesh import AsyncClient, FrameMasks, Point, Prompt
from maskmesh.cli.mesh.local_mesh import MeshOptions
from maskmesh.masks import ByteArray
from maskmesh.media.video_reader import read_frames
from maskmesh.nn.checkpoint import bundled_weights
from tests.mesh import running_mesh
from tests.previous_version import ROOT, extract, previous_version
from tests.redis_server import RedisServer, needs_redis, running_redis
from tools.make_sample import make_clip

pytestmark = needs_redis

PACKAGES = ("maskmesh", "encoder_svc", "tracker_svc", "gateway")

FRAMES = 12

# In the recommended order: a service is restarted before the services that call it.
NAMES = [f"{kind}{number}" for kind in ("encoder", "tracker", "gateway") for number in ("", "-2")]


@pytest.fixture(scope="module")
def version_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code before the last change of messages or snapshots, which are defined in protos."""
    folder = tmp_path_factory.mktemp("before")
    extract(previous_version(), folder, *PACKAGES)
    for library in (ROOT / "maskmesh" / "nn" / "amx").glob("*.so"):
        for kernel in ("maskmesh/nn/amx", "maskmesh/amx"):  # the second until version 0.1
            if (folder / kernel).exists():
                shutil.copy(library, folder / kernel)
    # Both versions must have one model: embeddings of other weights are rejected.
    current = bundled_weights("micro")
    assert current is not None
    for weights in folder.rglob("micro.safetensors"):
        shutil.copy(current, weights)
    return folder


@pytest.fixture(scope="module")
async def store(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RedisServer]:
    async with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


class Load:
    """Clients that repeat the same calls and compare each result with the first one."""

    def __init__(self, endpoint: str, clip: Path, pictures: list[ByteArray]) -> None:
        self._endpoint = endpoint
        self._clip = clip
        self._pictures = pictures
        self._is_over = False
        self._running: asyncio.Task[None] | None = None
        self.rounds: Counter[str] = Counter()
        self.longest = 0.0
        """Longest time between two results, in seconds."""

    async def __aenter__(self) -> Self:
        self._running = asyncio.ensure_future(self._run())
        await self.all_went_round()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_over = True
        assert self._running is not None
        await self._running

    async def all_went_round(self) -> None:
        """Wait until each client has completed a whole round."""
        before = self.rounds.copy()
        while any(self.rounds[name] < before[name] + 2 for name in ("_propagate", "_segment", "_stream")):
            assert self._running is not None
            if self._running.done():
                await self._running  # raises the error of the client
            await asyncio.sleep(0.05)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for work in (self._propagate, self._propagate, self._segment, self._stream):
                tasks.create_task(self._repeat(work))

    async def _repeat(self, work: Callable[[AsyncClient], Awaitable[object]]) -> None:
        async with AsyncClient(self._endpoint) as client:
            first = await work(client)
            while not self._is_over:
                assert await work(client) == first
                self.rounds[work.__name__] += 1

    async def _propagate(self, client: AsyncClient) -> list[list[object]]:
        """A typical session: upload, click, tracking, correction, tracking of the remaining frames."""
        async with client.session() as session:
            session_id = session.session_id
            await session.append_video(self._clip)
            await session.add_prompt(0, 1, points=[(110, 262)])
            found = await self._timed(session.propagate(max_frames=6))
            await session.add_prompt(5, 1, points=[(150, 262)])
            found += await self._timed(session.propagate(start_frame_index=5))
            state = await session.get_state()
            assert state.num_frames == FRAMES
            assert session.session_id == session_id
            return [[f.frame_index, f.objects] for f in found]

    async def _timed(self, frames: AsyncIterator[FrameMasks]) -> list[FrameMasks]:
        found, last = [], time.monotonic()
        async for frame in frames:
            found.append(frame)
            self.longest = max(self.longest, time.monotonic() - last)
            last = time.monotonic()
        return found

    async def _segment(self, client: AsyncClient) -> object:
        found = await client.segment_image(self._pictures[0], {1: Prompt(points=(Point(110, 100),))})
        await asyncio.sleep(0.05)  # leaves time to the other clients
        return found.objects

    async def _stream(self, client: AsyncClient) -> list[int]:
        async with client.stream() as live:

            async def send() -> None:
                for picture in self._pictures:
                    await live.send(picture)
                await live.finish()

            await live.send(self._pictures[0])
            prompting = asyncio.ensure_future(live.add_prompt(1, points=[(110, 262)]))
            sending = asyncio.ensure_future(send())
            sequences = [result.sequence async for result in live]
            await asyncio.gather(prompting, sending)
            return sequences


@pytest.mark.timeout(600)
async def test_no_request_fails_during_a_rolling_restart(
    tmp_path_factory: pytest.TempPathFactory, store: RedisServer, version_before: Path
) -> None:
    """Both versions call each other, and each reads the sessions that the other has stored."""
    clip = tmp_path_factory.mktemp("clip") / "clip.mp4"
    make_clip(clip, FRAMES)
    options = MeshOptions(encoders=2, trackers=2, gateways=2)
    async with running_mesh(
        tmp_path_factory.mktemp("traces"), options, code=version_before, MASKMESH_SESSION_URL=store.url
    ) as mesh:
        pictures = list(itertools.islice(read_frames(clip), 4))
        async with Load(mesh.endpoint, clip, pictures) as load:
            for name in NAMES:
                await mesh.local.restart(name)
                await load.all_went_round()
                if name == "tracker":
                    # Fail over back to the other tracker, which still runs the previous version.
                    mesh.local.kill(name)
                    await load.all_went_round()
                    await mesh.local.restart(name)
    print(f"\n{dict(load.rounds)}; the longest wait for a frame was {load.longest:.2f} s")
