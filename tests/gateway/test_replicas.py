"""Sessions of two gateways that share a store."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway.frames.frame_store import Addition
from gateway.frames.upload_replication import UploadReplicator
from maskmesh import AsyncClient, SessionNotFound, wire
from maskmesh.media.pictures import as_image
from maskmesh.storage.redis_store import StoreDown
from maskmesh.storage.session_store import SessionStore
from maskmesh.v1 import segmentation_pb2, segmentation_pb2_grpc
from tests.gateway.in_process import InProcess, image, replica_of, running_gateway
from tests.redis_server import needs_redis, running_redis

pytestmark = needs_redis

PICTURES = [image(0), image(1)]


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[InProcess]:
    folder = tmp_path / "redis"
    folder.mkdir()
    async with (
        running_redis(folder) as store,
        running_gateway(tmp_path / "first", session_url=store.url) as running,
    ):
        yield running


@pytest.fixture
async def replica(gateway: InProcess, tmp_path: Path) -> AsyncIterator[AsyncClient]:
    async with replica_of(gateway, tmp_path / "second") as client:
        yield client


async def test_an_upload_that_is_repeated_at_another_gateway_is_added_once(
    gateway: InProcess, replica: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first gateway is still writing the frames to the store when the second gets the same call."""
    may_write, is_writing = asyncio.Event(), asyncio.Event()
    original = UploadReplicator.replicate_upload

    async def slow(self: UploadReplicator, *arguments: Any) -> None:
        is_writing.set()
        await may_write.wait()
        await original(self, *arguments)

    monkeypatch.setattr(UploadReplicator, "replicate_upload", slow)
    session = await gateway.client.create_session()
    there = await replica.attach(session.session_id)
    first = asyncio.ensure_future(session.append_frames(PICTURES, idempotency_key="a"))
    await is_writing.wait()
    second = asyncio.ensure_future(there.append_frames(PICTURES, idempotency_key="a"))
    await asyncio.sleep(0.3)
    may_write.set()
    assert list(await asyncio.gather(first, second)) == [2, 2]
    assert (await there.get_state()).num_frames == 2


async def test_frames_are_written_when_the_store_is_back(
    gateway: InProcess, replica: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = SessionStore.put_frames

    async def down(*_: Any) -> None:
        raise StoreDown("the store is down")

    session = await gateway.client.create_session()
    monkeypatch.setattr(SessionStore, "put_frames", down)
    assert await session.append_frames(PICTURES[:1]) == 1
    monkeypatch.setattr(SessionStore, "put_frames", original)
    assert (await session.get_state()).num_frames == 1
    assert (await replica.attach(session.session_id)).num_frames == 1
    # A later upload does not leave a gap either.
    monkeypatch.setattr(SessionStore, "put_frames", down)
    await session.append_frames(PICTURES[:1])
    monkeypatch.setattr(SessionStore, "put_frames", original)
    await session.append_frames(PICTURES[1:])
    there = await replica.attach(session.session_id)
    assert there.num_frames == 3
    await there.add_prompt(2, 1, points=[(3, 3)])


async def test_a_cancelled_upload_has_taken_effect_everywhere_or_nowhere(
    gateway: InProcess, replica: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key a call ends when its client leaves, here while its frames are being added."""
    original = Addition.commit
    has_begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(self: Addition) -> int:
        loop.call_soon_threadsafe(has_begun.set)
        time.sleep(0.2)
        return original(self)

    monkeypatch.setattr(Addition, "commit", slow)
    session = await gateway.client.create_session()
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
        call = stub.AppendFrames()
        config = segmentation_pb2.AppendFramesConfig(session_id=session.session_id)
        await call.write(segmentation_pb2.AppendFramesRequest(config=config))
        frame = wire.image_to_proto(as_image(PICTURES[0]))
        await call.write(segmentation_pb2.AppendFramesRequest(frame=frame))
        await call.write(segmentation_pb2.AppendFramesRequest(finish=segmentation_pb2.AppendFramesFinish()))
        await has_begun.wait()
        call.cancel()
    async with asyncio.timeout(5):
        while (await session.get_state()).num_frames < 1:
            await asyncio.sleep(0.02)
        while (await replica.attach(session.session_id)).num_frames < 1:
            await asyncio.sleep(0.02)


async def test_a_propagation_ends_when_another_gateway_deletes_the_session(
    gateway: InProcess, replica: AsyncClient
) -> None:
    session = await gateway.client.create_session()
    await session.append_frames(PICTURES)
    await session.add_prompt(0, 1, points=[(3, 3)])
    [tracker] = gateway.trackers
    tracker.permits = asyncio.Semaphore(1)
    frames = aiter(session.propagate())
    assert (await anext(frames)).frame_index == 0
    await (await replica.attach(session.session_id)).delete()
    tracker.permits.release()
    with pytest.raises(SessionNotFound):
        async with asyncio.timeout(5):
            await anext(frames)
