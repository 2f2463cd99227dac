"""Sessions survive services that end, and move between replicas; test_chaos.py kills and stops services."""

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from maskmesh import (
    AsyncClient,
    FrameMasks,
    LiveResult,
    LiveStream,
    SessionLost,
    SessionNotFound,
    StaleEpoch,
    Unavailable,
    VideoSession,
)
from maskmesh.cli.mesh.local_mesh import MeshOptions
from maskmesh.internal.v1 import tracker_pb2, tracker_pb2_grpc
from maskmesh.masks import ByteArray
from maskmesh.media.video_reader import read_frames
from maskmesh.rpc.status import translate_rpc_errors
from maskmesh.v1 import segmentation_pb2
from tests.mesh import Mesh, running_mesh
from tests.redis_server import RedisServer, needs_redis, owner_of, running_redis

pytestmark = needs_redis

FRAMES = 24


@pytest.fixture(scope="module")
async def store(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RedisServer]:
    async with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
async def shared_replicas(
    tmp_path_factory: pytest.TempPathFactory, store: RedisServer
) -> AsyncIterator[Mesh]:
    options = MeshOptions(encoders=2, trackers=2, gateways=2)
    async with running_mesh(
        tmp_path_factory.mktemp("traces"), options, MASKMESH_SESSION_URL=store.url
    ) as mesh:
        yield mesh


@pytest.fixture
async def replicas(shared_replicas: Mesh) -> AsyncIterator[Mesh]:
    """Two encoders, trackers and gateways, with a session store; whole again after each test."""
    yield shared_replicas
    await shared_replicas.local.mend()


async def prompt(session: VideoSession, clip: Path) -> None:
    await session.append_video(clip)
    await session.add_prompt(0, 1, points=[(110, 262)])
    await session.add_prompt(0, 7, points=[(530, 185)])


async def undisturbed(client: AsyncClient, clip: Path) -> list[FrameMasks]:
    async with client.session() as session:
        await prompt(session, clip)
        return [frame async for frame in session.propagate(max_frames=FRAMES)]


async def test_draining_encoder(client: AsyncClient, replicas: Mesh, fresh_clip: Path) -> None:
    expected = await undisturbed(client, fresh_clip)
    async with AsyncClient(replicas.endpoint) as connected, connected.session() as session:
        await prompt(session, fresh_clip)
        frames = []
        async for frame in session.propagate(max_frames=FRAMES):
            frames.append(frame)
            if len(frames) == 9:
                replicas.local.kill("encoder", signal.SIGTERM)
        assert [f.frame_index for f in frames] == list(range(FRAMES))
        assert [f.objects for f in frames] == [f.objects for f in expected]


async def test_draining_tracker(client: AsyncClient, replicas: Mesh, store: RedisServer, clip: Path) -> None:
    expected = await undisturbed(client, clip)
    async with AsyncClient(replicas.endpoint) as connected, connected.session() as session:
        await prompt(session, clip)
        frames = []
        async for frame in session.propagate(max_frames=FRAMES):
            frames.append(frame)
            if len(frames) == 9:
                owner = await owner_of(session, replicas.local, store)
                replicas.local.kill(owner, signal.SIGTERM)
        assert [f.frame_index for f in frames] == list(range(FRAMES))
        assert [f.objects for f in frames] == [f.objects for f in expected]
        assert await owner_of(session, replicas.local, store) != owner


async def test_draining_gateway(client: AsyncClient, replicas: Mesh, clip: Path) -> None:
    """The client fails over to the other gateway; no frame is lost or repeated."""
    expected = await undisturbed(client, clip)
    async with AsyncClient(replicas.endpoint) as connected, connected.session() as session:
        await prompt(session, clip)
        frames = []
        async for frame in session.propagate(max_frames=FRAMES):
            frames.append(frame)
            if len(frames) == 9:
                replicas.local.kill("gateway", signal.SIGTERM)
        assert [f.frame_index for f in frames] == list(range(FRAMES))
        assert [f.objects for f in frames] == [f.objects for f in expected]
        state = await session.get_state()
        assert state.num_frames == 60
        assert [o.obj_id for o in state.objects] == [1, 7]


async def test_any_gateway_serves_a_session(replicas: Mesh, clip: Path) -> None:
    first, second = (AsyncClient(replicas.address(name)) for name in ("gateway", "gateway-2"))
    async with first, second, first.session() as session:
        await session.append_video(clip)
        there = await second.attach(session.session_id)
        assert (there.num_frames, there.width, there.height) == (60, 640, 360)
        one = await session.add_prompt(0, 1, points=[(110, 262)])
        other = await there.add_prompt(0, 2, points=[(110, 262)])
        assert one.objects[1].mask == other.objects[2].mask
        key = "a key"
        assert await there.remove_object(2, idempotency_key=key) == [1]
        assert await session.remove_object(2, idempotency_key=key) == [1]
        frames = [f.frame_index async for f in there.propagate(max_frames=3)]
        assert frames == [0, 1, 2]
        await there.delete()
        with pytest.raises(SessionNotFound):
            await session.get_state()


async def test_frames_are_shared_by_all_gateways(replicas: Mesh) -> None:
    pictures = [np.full((60, 80, 3), value, np.uint8) for value in range(4)]
    first, second = (AsyncClient(replicas.address(name)) for name in ("gateway", "gateway-2"))
    async with first, second, first.session() as session:
        await session.append_frames(pictures[:2], idempotency_key="first")
        there = await second.attach(session.session_id)
        assert await there.append_frames(pictures[2:]) == 4
        assert (await session.get_state()).num_frames == 4
        # A retry at the other gateway returns the result and does not add the frames again.
        assert await there.append_frames(pictures[:2], idempotency_key="first") == 2
        assert (await session.get_state()).num_frames == 4


async def test_create_session_is_idempotent_across_gateways(replicas: Mesh) -> None:
    request = segmentation_pb2.CreateSessionRequest(idempotency_key="once")
    first, second = (AsyncClient(replicas.address(name)) for name in ("gateway", "gateway-2"))
    async with first, second:
        made = [await connected._connection.call("CreateSession", request) for connected in (first, second)]
        assert made[0].session_id == made[1].session_id


async def test_live_stream_resumes_on_another_gateway(replicas: Mesh, clip: Path) -> None:
    pictures = list(itertools.islice(read_frames(clip), 10))
    first, second = (AsyncClient(replicas.address(name)) for name in ("gateway", "gateway-2"))
    async with first, second:
        whole: list[LiveResult] = []
        async with second.stream() as stream:
            whole += [r async for r in _through(stream, pictures)]
        token, results = "", []
        try:
            async with first.stream() as stream:
                async for result in _through(stream, pictures):
                    results.append(result)
                    token = result.resume_token
                    if result.sequence == 5:
                        await asyncio.sleep(0.5)  # the received frames are replicated to the store by now
                        replicas.local.kill("gateway")
        except Unavailable:
            pass
        async with second.stream(resume_token=token) as stream:
            rest = pictures[stream.next_sequence :]
            results += [r async for r in _through(stream, rest, is_new=False)]
    assert [r.sequence for r in results] == list(range(10))
    # The first frame may be tracked before its click arrives.
    assert [r.frame.objects for r in results[1:]] == [r.frame.objects for r in whole[1:]]
    assert all(r.frame.objects for r in results[1:])


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "SIGSTOP"])
async def test_client_resumes_a_live_stream_automatically(
    replicas: Mesh, clip: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr("maskmesh.rpc.channel.CLIENT_PING_SECONDS", 2.0)
    pictures = list(itertools.islice(read_frames(clip), 16))
    async with AsyncClient(replicas.address("gateway-2")) as client, client.stream() as stream:
        whole = [r async for r in _through(stream, pictures)]
    async with AsyncClient(replicas.endpoint) as client:
        results = []
        async with client.stream() as stream:
            session_id = stream.session_id
            async for result in _through(stream, pictures):
                results.append(result)
                if result.sequence == 6:
                    replicas.local.kill("gateway", signal.Signals[how])
            assert stream.session_id == session_id
    assert [r.sequence for r in results] == list(range(16))
    assert [r.frame.objects for r in results[1:]] == [r.frame.objects for r in whole[1:]]
    assert all(r.frame.objects for r in results[1:])


async def _through(
    stream: LiveStream, pictures: list[ByteArray], *, is_new: bool = True
) -> AsyncIterator[LiveResult]:
    """Send images, with at most two results outstanding; in a new stream add a click on the first one."""
    places = asyncio.Semaphore(2)

    async def send() -> None:
        for number, picture in enumerate(pictures):
            await places.acquire()
            await stream.send(picture)
            if is_new and number == 0:
                await stream.add_prompt(1, points=[(110, 262)])
        await stream.finish()

    sending = asyncio.ensure_future(send())
    try:
        async for result in stream:
            yield result
            places.release()
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def test_previous_owner_is_fenced_by_the_epoch(replicas: Mesh, store: RedisServer, clip: Path) -> None:
    async with AsyncClient(replicas.endpoint) as connected, connected.session() as session:
        await prompt(session, clip)
        before = await owner_of(session, replicas.local, store)
        replicas.local.kill(before, signal.SIGSTOP)
        await session.add_prompt(1, 1, points=[(110, 262)])
        assert await owner_of(session, replicas.local, store) != before
        replicas.local.kill(before, signal.SIGCONT)
        async with grpc.aio.insecure_channel(replicas.address(before)) as channel:
            stub = tracker_pb2_grpc.TrackerServiceStub(channel)
            known = tracker_pb2.GetSessionRequest(session_id=session.session_id, epoch=1)
            with pytest.raises(StaleEpoch), translate_rpc_errors():
                await stub.GetSession(known)
            reset = tracker_pb2.ResetSessionRequest(session_id=session.session_id, epoch=1)
            with pytest.raises(StaleEpoch), translate_rpc_errors():
                await stub.ResetSession(reset)
        state = await session.get_state()
        assert [o.prompted_frames for o in state.objects] == [(0, 1), (0,)]


@pytest.fixture
async def alone(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    """Two trackers without a store."""
    options = MeshOptions(trackers=2)
    async with running_mesh(tmp_path_factory.mktemp("traces"), options) as mesh:
        yield mesh


async def owner_alone(session: VideoSession, mesh: Mesh) -> str:
    """The name of the only tracker with a session, in a mesh without a store."""
    for name in ("tracker", "tracker-2"):
        async with grpc.aio.insecure_channel(mesh.address(name)) as channel:
            stub = tracker_pb2_grpc.TrackerServiceStub(channel)
            if (await stub.GetLoad(tracker_pb2.GetLoadRequest())).sessions:
                return name
    raise AssertionError("no tracker has the session")


async def test_draining_tracker_hands_over_sessions(client: AsyncClient, alone: Mesh, clip: Path) -> None:
    expected = await undisturbed(client, clip)
    async with AsyncClient(alone.endpoint) as connected, connected.session() as session:
        await prompt(session, clip)
        frames = []
        async for frame in session.propagate(max_frames=FRAMES):
            frames.append(frame)
            if len(frames) == 9:
                alone.local.kill(await owner_alone(session, alone), signal.SIGTERM)
        assert [f.objects for f in frames] == [f.objects for f in expected]


async def test_draining_tracker_hands_over_idle_sessions(alone: Mesh, clip: Path) -> None:
    async with AsyncClient(alone.endpoint) as connected, connected.session() as session:
        await prompt(session, clip)
        before = await session.get_state()
        leaving = await owner_alone(session, alone)
        process = Path(f"/proc/{alone.local.pid(leaving)}")
        alone.local.kill(leaving, signal.SIGTERM)
        async with asyncio.timeout(20):
            while process.exists():
                await asyncio.sleep(0.05)
        after = await session.get_state()
        assert (after.objects, after.history) == (before.objects, before.history)
        assert [f.frame_index async for f in session.propagate(max_frames=2)] == [0, 1]


async def test_recover_after_session_loss_without_a_store(alone: Mesh, clip: Path) -> None:
    async with AsyncClient(alone.endpoint) as connected, connected.session() as session:
        await prompt(session, clip)

        async def lose() -> None:
            async for frame in session.propagate(max_frames=FRAMES):
                if frame.frame_index == 8:
                    alone.local.kill(await owner_alone(session, alone))

        with pytest.raises(SessionLost) as caught:
            await lose()
        last = caught.value.last_frame_index
        assert last is not None
        assert last >= 8
        assert caught.value.metadata["session_id"] == session.session_id
        await session.recover()
        rest = [f async for f in session.propagate(start_frame_index=last + 1, max_frames=3)]
        assert [f.frame_index for f in rest] == [last + 1, last + 2, last + 3]
        assert list(rest[0].objects) == [1, 7]
