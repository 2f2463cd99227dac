"""The queue of the requests of a live stream: frames, and commands between them."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.frames.frame_ring import FrameRing
from maskmesh import wire
from maskmesh.errors import InvalidRequest, MaskmeshError
from maskmesh.media.pictures import PixelLimit, image_size
from maskmesh.types import Image
from maskmesh.v1 import segmentation_pb2

# Maximum number of queued items after a prompt or removal; no requests are read while there are more.
MAX_QUEUED_COMMANDS = 64


@dataclass(slots=True, eq=False)
class ReceivedFrame:
    """A frame, when this gateway began to wait for it, and when it was received."""

    sequence: int
    image: Image
    awaited_ns: int
    received_ns: int
    is_prompted: bool = False
    """Whether a prompt refers to the frame, which is then never skipped."""


@dataclass(frozen=True, slots=True)
class PromptCommand:
    """A prompt on the frame with the client's sequence number ``sequence``."""

    message: segmentation_pb2.StreamPrompt
    sequence: int


@dataclass(frozen=True, slots=True)
class RemovalCommand:
    """The removal of an object."""

    message: segmentation_pb2.StreamRemoval


@dataclass(frozen=True, slots=True)
class ConceptCommand:
    """A concept, on the frame with the client's sequence number ``sequence`` if it names one."""

    message: segmentation_pb2.StreamConcept
    sequence: int | None


@dataclass(frozen=True, slots=True)
class ConceptRemovalCommand:
    """The removal of a concept."""

    message: segmentation_pb2.StreamConceptRemoval


@dataclass(frozen=True, slots=True)
class PointsCommand:
    """Points on the frame with the client's sequence number ``sequence``."""

    message: segmentation_pb2.StreamPoints
    sequence: int


@dataclass(frozen=True, slots=True)
class PointsRemovalCommand:
    """The removal of points."""

    message: segmentation_pb2.StreamPointsRemoval


Command = (
    PromptCommand
    | RemovalCommand
    | ConceptCommand
    | ConceptRemovalCommand
    | PointsCommand
    | PointsRemovalCommand
)


class Reject(Protocol):
    """Rejects one message."""

    def __call__(self, error: MaskmeshError, *, request_id: str = "", sequence: int | None = None) -> None:
        """``sequence`` identifies a rejected frame, ``request_id`` a rejected command."""


class Inbox:
    """The queue of received frames and commands.

    At most ``max_frames`` frames are queued besides those that a prompt refers to; a new frame takes the
    place of the oldest one.  With 0, no frame is skipped: no request is read while a frame is queued.
    """

    def __init__(self, ring: FrameRing, *, max_frames: int, limit: PixelLimit, reject: Reject) -> None:
        self.is_finished = False
        """Whether the client has sent its finish message."""
        self.num_received = 0
        """Number of frames that were received, also of those that were rejected."""
        self._ring = ring
        self._max_frames = max_frames
        self._limit = limit
        self._reject = reject
        self._waiting: deque[ReceivedFrame | Command] = deque()
        self._changed = asyncio.Condition()
        self._next_sequence = 0
        self._newest: int | None = None

    def begin(self) -> None:
        """Expect the frame after the last one in the ring."""
        self._next_sequence = self._ring.next_sequence
        self._newest = self._next_sequence - 1 if self._ring.num_frames else None

    @property
    def newest_sequence(self) -> int:
        """The number of the newest usable frame, -1 before the first."""
        return -1 if self._newest is None else self._newest

    async def fill(self, requests: AsyncIterator[segmentation_pb2.SegmentStreamRequest]) -> None:
        """Receive requests until the finish message.

        Raises InvalidRequest if a request must not follow the configuration, or if the stream ends without
        a finish message.
        """
        awaited_ns = time.time_ns()
        async for request in requests:
            match request.WhichOneof("content"):
                case "frame":
                    await self._add_frame(request.frame, awaited_ns)
                case "prompt":
                    await self._add_prompt(request.prompt)
                case "removal":
                    await self._add_command(RemovalCommand(request.removal))
                case "concept":
                    await self._add_concept(request.concept)
                case "concept_removal":
                    await self._add_command(ConceptRemovalCommand(request.concept_removal))
                case "points":
                    await self._add_points(request.points)
                case "points_removal":
                    await self._add_command(PointsRemovalCommand(request.points_removal))
                case "finish":
                    self.is_finished = True
                    await self._notify()
                    return
                case _:
                    raise InvalidRequest(
                        "only frames, commands and finish may follow the configuration",
                        field="content",
                    )
            awaited_ns = time.time_ns()
        raise InvalidRequest("the stream ended without a finish message", field="content")

    async def next(self, slots: asyncio.Semaphore) -> ReceivedFrame | Command | None:
        """The next item: a command at once, a frame as soon as a slot is free; None after the last item."""
        has_slot = False
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._waiting or self.is_finished)
            if self._waiting and isinstance(self._waiting[0], ReceivedFrame) and not has_slot:
                # A newer frame may replace the queued one meanwhile.
                await slots.acquire()
                has_slot = True
                continue
            first = self._waiting.popleft() if self._waiting else None
            if has_slot and not isinstance(first, ReceivedFrame):
                slots.release()
            await self._notify()
            return first

    async def _add_frame(self, frame: segmentation_pb2.StreamFrame, awaited_ns: int) -> None:
        received_ns = time.time_ns()
        if frame.sequence < self._next_sequence:
            return  # an earlier stream has accepted this frame
        self.num_received += 1
        if frame.sequence > self._next_sequence:
            error = InvalidRequest(
                f"the sequence of the next frame must be {self._next_sequence}", field="frame.sequence"
            )
            self._reject(error, sequence=frame.sequence)
            return
        self._next_sequence += 1
        try:
            image = wire.image_from_proto(frame.image, field="frame.image", limit=self._limit)
            size = image_size(image, self._limit, field="frame.image")
            self._ring.check_size(size, field="frame.image")
        except MaskmeshError as error:
            self._reject(error, sequence=frame.sequence)
            return
        self._newest = frame.sequence
        if self._max_frames:
            queued = [w for w in self._waiting if isinstance(w, ReceivedFrame) and not w.is_prompted]
            for oldest in queued[: max(0, len(queued) + 1 - self._max_frames)]:
                self._waiting.remove(oldest)
                self._ring.skip(oldest.sequence)
        received_frame = ReceivedFrame(frame.sequence, image, awaited_ns, received_ns)
        await self._add(received_frame, lambda: self._max_frames or received_frame not in self._waiting)

    async def _add_prompt(self, prompt: segmentation_pb2.StreamPrompt) -> None:
        sequence = prompt.sequence if prompt.HasField("sequence") else self._newest
        if self._mark(sequence, "prompt.sequence", prompt.request_id) and sequence is not None:
            await self._add_command(PromptCommand(prompt, sequence))

    async def _add_points(self, points: segmentation_pb2.StreamPoints) -> None:
        sequence = points.sequence if points.HasField("sequence") else self._newest
        if self._mark(sequence, "points.sequence", points.request_id) and sequence is not None:
            await self._add_command(PointsCommand(points, sequence))

    async def _add_concept(self, concept: segmentation_pb2.StreamConcept) -> None:
        sequence = concept.sequence if concept.HasField("sequence") else None
        if sequence is None or self._mark(sequence, "concept.sequence", concept.request_id):
            await self._add_command(ConceptCommand(concept, sequence))

    def _mark(self, sequence: int | None, field: str, request_id: str) -> bool:
        """Keep a frame from being skipped, because a command names it; reject one that was not sent yet."""
        if sequence is None or not 0 <= sequence < self._next_sequence:
            self._reject(
                InvalidRequest("the frame has not been sent yet", field=field), request_id=request_id
            )
            return False
        for queued in self._waiting:
            if isinstance(queued, ReceivedFrame) and queued.sequence == sequence:
                queued.is_prompted = True
        return True

    async def _add_command(self, command: Command) -> None:
        await self._add(command, lambda: len(self._waiting) < MAX_QUEUED_COMMANDS)

    async def _add(self, item: ReceivedFrame | Command, may_continue: Callable[[], object]) -> None:
        """Add an item, and return when the next request may be read."""
        self._waiting.append(item)
        await self._notify()
        async with self._changed:
            await self._changed.wait_for(may_continue)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()
