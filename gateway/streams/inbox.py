"""What a live stream brings, in the order in which it is worked off."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.frames.frame_ring import FrameRing
from gateway.frames.frame_store import image_size
from maskmesh import wire
from maskmesh.errors import InvalidRequest, MaskmeshError
from maskmesh.types import Image
from maskmesh.v1 import segmentation_pb2

# Prompts and removals that wait for their turn; beyond, nothing more is read.
MAX_WAITING = 64


@dataclass(slots=True, eq=False)
class Arrived:
    """A frame, when it began to be waited for, and when it came."""

    sequence: int
    image: Image
    awaited_ns: int
    arrived_ns: int
    is_prompted: bool = False
    """A prompt is about it: it is not left out."""


@dataclass(frozen=True, slots=True)
class Prompted:
    """A prompt about the frame that the client numbered ``sequence``."""

    prompt: segmentation_pb2.StreamPrompt
    sequence: int


@dataclass(frozen=True, slots=True)
class Removed:
    """A removal."""

    removal: segmentation_pb2.StreamRemoval


Command = Prompted | Removed


class Reject(Protocol):
    """Says what is wrong with one message."""

    def __call__(self, error: MaskmeshError, *, request_id: str = "", sequence: int | None = None) -> None:
        """``sequence`` is a frame's, ``request_id`` a command's."""


class Inbox:
    """Frames and commands that wait.

    With ``skips`` a frame that arrives takes the place of one that still waits, so that at most one does,
    besides those that a prompt is about, which are never left out; else nothing is read while one waits.
    """

    def __init__(self, ring: FrameRing, *, skips: bool, max_pixels: int, reject: Reject) -> None:
        self.is_finished = False
        """Whether the client said that nothing follows."""
        self._ring = ring
        self._skips = skips
        self._max_pixels = max_pixels
        self._reject = reject
        self._waiting: deque[Arrived | Command] = deque()
        self._changed = asyncio.Condition()
        self._next_sequence = 0
        self._newest: int | None = None

    def begin(self) -> None:
        """Expect what the ring does not have."""
        self._next_sequence = self._ring.next_sequence
        self._newest = self._next_sequence - 1 if self._ring.num_frames else None

    async def fill(self, requests: AsyncIterator[segmentation_pb2.SegmentStreamRequest]) -> None:
        """Take messages until the client finishes.

        Raises InvalidRequest for a message that no stream has at its place, and where the client leaves
        without the last one.
        """
        awaited_ns = time.time_ns()
        async for request in requests:
            match request.WhichOneof("content"):
                case "frame":
                    await self._take_frame(request.frame, awaited_ns)
                case "prompt":
                    await self._take_prompt(request.prompt)
                case "removal":
                    await self._take(Removed(request.removal), lambda: len(self._waiting) < MAX_WAITING)
                case "finish":
                    self.is_finished = True
                    await self._notify()
                    return
                case _:
                    raise InvalidRequest("after the configuration come frames and prompts", field="content")
            awaited_ns = time.time_ns()
        raise InvalidRequest("the stream ended before its last message", field="content")

    async def next(self, slots: asyncio.Semaphore) -> Arrived | Command | None:
        """What is next: a command at once, a frame when there is a slot for it; None at the end."""
        has_slot = False
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._waiting or self.is_finished)
            if self._waiting and isinstance(self._waiting[0], Arrived) and not has_slot:
                # A newer frame may take its place meanwhile.
                await slots.acquire()
                has_slot = True
                continue
            first = self._waiting.popleft() if self._waiting else None
            if has_slot and not isinstance(first, Arrived):
                slots.release()
            await self._notify()
            return first

    async def _take_frame(self, frame: segmentation_pb2.StreamFrame, awaited_ns: int) -> None:
        arrived_ns = time.time_ns()
        if frame.sequence < self._next_sequence:
            return  # it came before the stream broke
        if frame.sequence > self._next_sequence:
            error = InvalidRequest(f"frame {self._next_sequence} comes next", field="frame.sequence")
            self._reject(error, sequence=frame.sequence)
            return
        self._next_sequence += 1
        try:
            image = wire.image_from_proto(frame.image, field="frame.image", max_pixels=self._max_pixels)
            size = image_size(image, field="frame.image", max_pixels=self._max_pixels)
            self._ring.check_size(size, field="frame.image")
        except MaskmeshError as error:
            self._reject(error, sequence=frame.sequence)
            return
        self._newest = frame.sequence
        if self._skips:
            for waiting in [w for w in self._waiting if isinstance(w, Arrived) and not w.is_prompted]:
                self._waiting.remove(waiting)
                self._ring.skipped.append(waiting.sequence)
        arrived = Arrived(frame.sequence, image, awaited_ns, arrived_ns)
        await self._take(arrived, lambda: self._skips or arrived not in self._waiting)

    async def _take_prompt(self, prompt: segmentation_pb2.StreamPrompt) -> None:
        sequence = prompt.sequence if prompt.HasField("sequence") else self._newest
        if sequence is None or not 0 <= sequence < self._next_sequence:
            error = InvalidRequest("that frame has not been sent yet", field="prompt.sequence")
            self._reject(error, request_id=prompt.request_id)
            return
        for waiting in self._waiting:
            if isinstance(waiting, Arrived) and waiting.sequence == sequence:
                waiting.is_prompted = True
        await self._take(Prompted(prompt, sequence), lambda: len(self._waiting) < MAX_WAITING)

    async def _take(self, item: Arrived | Command, may_go_on: Callable[[], bool]) -> None:
        """Put something in, and read on as soon as it may be."""
        self._waiting.append(item)
        await self._notify()
        async with self._changed:
            await self._changed.wait_for(may_go_on)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()
