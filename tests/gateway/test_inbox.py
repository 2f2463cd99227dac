"""Queueing and skipping of the frames of a live stream."""

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

from gateway.frames.frame_ring import FrameRing
from gateway.live.inbox import Command, Inbox, PromptCommand, ReceivedFrame, RemovalCommand
from maskmesh import InvalidRequest, MaskmeshError
from maskmesh.media.pictures import PixelLimit
from maskmesh.types import RawImage
from maskmesh.v1 import segmentation_pb2
from maskmesh.wire import image_to_proto

Request = segmentation_pb2.SegmentStreamRequest


def frame(sequence: int, *, width: int = 8) -> Request:
    image = image_to_proto(RawImage(np.zeros((6, width, 3), dtype=np.uint8)))
    return Request(frame=segmentation_pb2.StreamFrame(sequence=sequence, image=image))


def prompt(sequence: int | None = None, request_id: str = "") -> Request:
    return Request(prompt=segmentation_pb2.StreamPrompt(request_id=request_id, sequence=sequence))


FINISH = Request(finish=segmentation_pb2.StreamFinish())


class Box:
    """An inbox, the queue that fills it, and the requests that it rejected."""

    def __init__(self, *, max_frames: int, places: int = 1) -> None:
        self.rejected: list[tuple[MaskmeshError, str, int | None]] = []
        self.ring = FrameRing()
        self.slots = asyncio.Semaphore(places)
        self.inbox = Inbox(self.ring, max_frames=max_frames, limit=PixelLimit(1000), reject=self.reject)
        self.inbox.begin()
        self.requests: asyncio.Queue[Request | None] = asyncio.Queue()
        self.filling = asyncio.ensure_future(self.inbox.fill(self._messages()))

    def reject(self, error: MaskmeshError, *, request_id: str = "", sequence: int | None = None) -> None:
        self.rejected.append((error, request_id, sequence))

    async def _messages(self) -> AsyncIterator[Request]:
        while (request := await self.requests.get()) is not None:
            yield request

    async def put(self, *requests: Request) -> None:
        for request in requests:
            self.requests.put_nowait(request)
        for _ in range(20):
            await asyncio.sleep(0)

    async def next(self) -> ReceivedFrame | Command | None:
        return await asyncio.wait_for(self.inbox.next(self.slots), 1)

    async def sequence(self) -> int:
        found = await self.next()
        assert isinstance(found, ReceivedFrame)
        return found.sequence


async def test_without_skipping_reading_pauses_on_a_queued_frame() -> None:
    box = Box(max_frames=0)
    await box.put(frame(0), frame(1), frame(2), FINISH)
    assert box.requests.qsize() == 3
    for expected in range(3):
        assert await box.sequence() == expected
        box.slots.release()
    assert await box.next() is None
    assert box.inbox.is_finished
    assert not box.ring.skipped


async def test_with_skipping_the_newest_frame_is_queued() -> None:
    box = Box(max_frames=1)
    await box.put(*(frame(i) for i in range(5)))
    assert await box.sequence() == 4
    assert box.ring.skipped == [0, 1, 2, 3]
    # No slot is free: a newer frame replaces the queued one.
    waiting = asyncio.ensure_future(box.next())
    await box.put(frame(5), frame(6))
    box.slots.release()
    found = await waiting
    assert isinstance(found, ReceivedFrame)
    assert found.sequence == 6
    assert box.ring.skipped == [0, 1, 2, 3, 5]


async def test_prompted_frames_are_not_skipped() -> None:
    box = Box(max_frames=1)
    await box.put(frame(0), frame(1), prompt(), frame(2), frame(3), prompt(1), FINISH)
    assert await box.sequence() == 1
    said = await box.next()
    assert isinstance(said, PromptCommand)
    assert said.sequence == 1
    box.slots.release()
    assert await box.sequence() == 3
    assert isinstance(await box.next(), PromptCommand)
    assert await box.next() is None
    assert box.ring.skipped == [0, 2]


async def test_commands_need_no_slot() -> None:
    box = Box(max_frames=0, places=0)
    await box.put(Request(removal=segmentation_pb2.StreamRemoval(obj_id=3)))
    assert isinstance(await box.next(), RemovalCommand)


async def test_invalid_requests_are_rejected_individually() -> None:
    box = Box(max_frames=1, places=5)
    await box.put(prompt(request_id="early"), frame(1), frame(0), frame(1, width=9), frame(2))
    await box.put(frame(0), FINISH)
    assert await box.sequence() == 2
    assert [(r[1], r[2]) for r in box.rejected] == [("early", None), ("", 1), ("", 1)]
    fields = [r[0].metadata["field"] for r in box.rejected]
    assert fields == ["prompt.sequence", "frame.sequence", "frame.image"]
    assert await box.next() is None


async def test_disconnected_client_does_not_finish_the_stream() -> None:
    box = Box(max_frames=0, places=5)
    await box.put(frame(0))
    box.requests.put_nowait(None)
    await box.sequence()
    with pytest.raises(InvalidRequest):
        await asyncio.wait_for(box.filling, 1)
    assert not box.inbox.is_finished
