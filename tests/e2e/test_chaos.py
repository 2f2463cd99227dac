"""Services are killed or stopped during a propagation: no frame is lost, and the masks do not change.

    pytest tests/e2e/test_chaos.py --moments 20 -s

runs each case at twenty moments and prints how long the client waited; the default is one moment.
"""

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from maskmesh import AsyncClient, ConceptOptions, FrameMasks, VideoSession
from maskmesh.cli.mesh.local_mesh import MeshOptions
from tests.fresh_clips import write_fresh_clip
from tests.golden import needs_data
from tests.golden_mesh import PHRASE, golden_frames, golden_options
from tests.mesh import Mesh, running_mesh
from tests.redis_server import RedisServer, needs_redis, owner_of, running_redis

pytestmark = needs_redis

FRAMES = 20

# The signal is sent at a random time within two frames.
FRAME_SECONDS = 0.08

# How long a stopped service stays stopped: longer than its callers wait before they give it up.
STOPPED_SECONDS = {"gateway": 6.0, "encoder": 3.5, "tracker": 3.5, "store": 3.5}


@pytest.fixture(scope="module")
async def store(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RedisServer]:
    async with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
async def replicas(tmp_path_factory: pytest.TempPathFactory, store: RedisServer) -> AsyncIterator[Mesh]:
    options = MeshOptions(encoders=2, trackers=2, gateways=2)
    traces = tmp_path_factory.mktemp("traces")
    async with running_mesh(traces, options, MASKMESH_SESSION_URL=store.url) as mesh:
        yield mesh


async def prompt(session: VideoSession, clip: Path) -> None:
    await session.append_video(clip)
    await session.add_prompt(0, 1, points=[(110, 262)])
    await session.add_prompt(3, 7, points=[(530, 185)])


async def undisturbed(client: AsyncClient, clip: Path) -> list[FrameMasks]:
    async with client.session() as session:
        await prompt(session, clip)
        return [frame async for frame in session.propagate(max_frames=FRAMES)]


async def victim_of(kind: str, session: VideoSession, mesh: Mesh, store: RedisServer) -> str:
    """The owner of the session for a tracker; the first gateway or encoder otherwise."""
    return await owner_of(session, mesh.local, store) if kind == "tracker" else kind


@pytest.mark.parametrize("kind", ["encoder", "tracker", "gateway", "store"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
async def test_no_frame_is_lost_if_a_service_fails(
    client: AsyncClient,
    replicas: Mesh,
    store: RedisServer,
    tmp_path: Path,
    clip: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    how: signal.Signals,
    moment: int,
) -> None:
    monkeypatch.setattr("maskmesh.rpc.channel.CLIENT_PING_SECONDS", 3.0)
    chance = random.Random(f"{kind} {how} {moment}")
    fresh_clip = tmp_path / "fresh.mp4"
    write_fresh_clip(fresh_clip, clip, FRAMES)
    expected = await undisturbed(client, fresh_clip)
    after, delay = chance.randrange(1, FRAMES - 3), chance.uniform(0, 2 * FRAME_SECONDS)
    frames: list[FrameMasks] = []
    waits: list[float] = []
    strikes: list[asyncio.Task[None]] = []

    async def strike(session: VideoSession) -> None:
        await asyncio.sleep(delay)
        if kind == "store":
            if how is signal.SIGKILL:
                await store.stop(how)
                await asyncio.sleep(1.0)
                await store.start()
            else:
                store.send(how)
                await asyncio.sleep(STOPPED_SECONDS[kind])
                store.send(signal.SIGCONT)
            return
        victim = await victim_of(kind, session, replicas, store)
        replicas.local.kill(victim, how)
        await asyncio.sleep(0.0 if how is signal.SIGKILL else STOPPED_SECONDS[kind])
        if how is signal.SIGSTOP:
            replicas.local.kill(victim, signal.SIGCONT)
        else:
            await replicas.local.restart(victim)

    async with AsyncClient(replicas.endpoint) as connected, connected.session() as session:
        await prompt(session, fresh_clip)
        last = time.monotonic()
        async for frame in session.propagate(max_frames=FRAMES):
            waits.append(time.monotonic() - last)
            frames.append(frame)
            if len(frames) == after:
                strikes.append(asyncio.ensure_future(strike(session)))
            last = time.monotonic()
        await asyncio.gather(*strikes)
        state = await session.get_state()
    print(
        f"\n{kind} {how.name} after frame {after} and {delay:.3f} s: the longest wait was {max(waits):.2f} s"
    )
    assert [f.frame_index for f in frames] == list(range(FRAMES))
    assert [f.objects for f in frames] == [f.objects for f in expected]
    assert [o.obj_id for o in state.objects] == [1, 7]


@needs_data
async def test_objects_of_concepts_survive_their_tracker(
    tmp_path: Path, store: RedisServer, moment: int
) -> None:
    """Found objects keep their numbers, and those that are new or leave meanwhile are the same."""
    chance = random.Random(moment)
    frames = golden_frames()
    options = golden_options(tmp_path, trackers=2)
    concept = ConceptOptions(hotstart_delay=5, new_score_threshold=0.55)
    async with (
        running_mesh(tmp_path, options, MASKMESH_SESSION_URL=store.url) as mesh,
        AsyncClient(mesh.endpoint) as client,
    ):
        runs: list[list[FrameMasks]] = [[], []]
        strikes: list[asyncio.Task[None]] = []
        after, delay = chance.randrange(1, len(frames) - 3), chance.uniform(0, 2 * FRAME_SECONDS)

        async def strike(session: VideoSession) -> None:
            await asyncio.sleep(delay)
            mesh.local.kill(await owner_of(session, mesh.local, store))

        for run, results in enumerate(runs):
            async with client.session() as session:
                await session.append_frames(frames)
                await session.add_concept(1, PHRASE, options=concept)
                await session.add_prompt(0, 7, points=[(100, 100)])
                async for frame in session.propagate():
                    results.append(frame)
                    if run and len(results) == after:
                        strikes.append(asyncio.ensure_future(strike(session)))
                await asyncio.gather(*strikes)
                state = await session.get_state()
        assert [c.concept_id for c in state.concepts] == [1]
    expected, disturbed = runs
    assert [f.frame_index for f in disturbed] == list(range(len(frames)))
    assert [f.objects for f in disturbed] == [f.objects for f in expected]
    assert [(f.new_obj_ids, f.gone_obj_ids) for f in disturbed] == [
        (f.new_obj_ids, f.gone_obj_ids) for f in expected
    ]


async def test_objects_of_sam3_survive_their_tracker(tmp_path: Path, store: RedisServer, clip: Path) -> None:
    """Its memories are selected by quality, so the next tracker needs more than the last frames."""
    options = MeshOptions(model="sam3-test", trackers=2)
    async with (
        running_mesh(tmp_path, options, MASKMESH_SESSION_URL=store.url) as mesh,
        AsyncClient(mesh.endpoint) as client,
        client.session() as session,
    ):
        expected = await undisturbed(client, clip)
        await prompt(session, clip)
        frames = []
        async for frame in session.propagate(max_frames=FRAMES):
            frames.append(frame)
            if len(frames) == FRAMES // 2:
                mesh.local.kill(await owner_of(session, mesh.local, store))
    assert [f.frame_index for f in frames] == list(range(FRAMES))
    assert [f.objects for f in frames] == [f.objects for f in expected]
