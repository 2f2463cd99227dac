"""The client's end of a live stream."""

import asyncio
import logging
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias

import grpc

from maskmesh import wire
from maskmesh.client.resend_buffer import ResendBuffer
from maskmesh.errors import MaskmeshError, Unavailable, from_reason, from_rpc_error, translate_rpc_errors
from maskmesh.images import ImageLike, as_image
from maskmesh.masks import BinaryMask, BoolArray
from maskmesh.rpc.stream_call import RESUME_SECONDS, RESUMPTIONS, StreamCall
from maskmesh.types import Box, FrameMasks, ModelInfo, Point, Prompt
from maskmesh.v1 import segmentation_pb2

logger = logging.getLogger(__name__)

LEFT = "the stream was left"

# Frames that are kept until they are answered.  Where some are left out anyway, no more than are shown in a
# moment; elsewhere a sender waits for the other end long before.
MAX_SKIPPABLE = 8
MAX_UNANSWERED = 1024

OnRejected: TypeAlias = Callable[[int, MaskmeshError], None]
"""Told of a frame that cannot be used: its number, and why."""


@dataclass(frozen=True, slots=True)
class LiveResult:
    """One frame of a live stream."""

    frame: FrameMasks
    """Every object on it; its ``frame_index`` counts the frames that were tracked."""
    sequence: int
    """The frame's number as :meth:`LiveStream.send` returned it."""
    skipped: Sequence[int]
    """The frames that were left out since the result before."""
    resume_token: str
    """Goes on after this frame, should the stream break."""


class LiveStream:
    """Frames go out by :meth:`send`, results come back by iterating; made by ``AsyncClient.stream``.

    Send in one task and iterate in another: either waits for the other end, and what is prompted is answered
    only while results are taken.  Other calls on the session are made through ``AsyncClient.attach``.
    Where the connection breaks the stream goes on with a gateway that is there, within a few seconds:
    what it has not answered is sent again.  Where there is none, both ends raise :class:`Unavailable`, or
    what the server says.
    """

    def __init__(
        self,
        connect: Callable[[], StreamCall],
        on_rejected: OnRejected | None,
        *,
        max_results: int,
        skips: bool,
    ) -> None:
        """``connect`` makes a call of SegmentStream."""
        self._connect = connect
        self._call = connect()
        self._config = segmentation_pb2.StreamConfig()
        self._on_rejected = on_rejected or _log_rejected
        self._max_results = max_results
        self._results: deque[LiveResult] = deque()
        self._changed = asyncio.Event()
        self._has_ended = False
        self._ending: Exception | None = None
        self._asked: dict[str, asyncio.Future[Any]] = {}
        self._unanswered = ResendBuffer(MAX_SKIPPABLE if skips else MAX_UNANSWERED)
        self._refused: set[int] = set()  # which may be sent, and refused, again
        self._is_new = True  # nothing was answered
        self._writing = asyncio.Lock()
        self._sending = asyncio.Lock()
        self._ready = asyncio.Event()
        self._receiver: asyncio.Task[None] | None = None
        self._next_sequence = 0
        self._is_finished = False
        self.was_left = False
        """Whether :meth:`leave` was called."""
        self.session_id = ""
        self.ttl = timedelta()
        """How long the session stays after the stream broke."""
        self.model: ModelInfo | None = None
        self.window = 0
        """The largest number of frames that are under way at once."""

    async def open(self, config: segmentation_pb2.StreamConfig) -> None:
        """Begin.  Raises InvalidRequest, SessionNotFound, ResourceExhausted, Unavailable."""
        with translate_rpc_errors():
            started = await self._start(self._call, config)
        # The same for another call, should this one break.
        self._config.CopyFrom(config)
        self._config.resume_token = started.resume_token or config.resume_token
        self.session_id, self.ttl = started.session_id, started.ttl.ToTimedelta()
        self.model, self.window = wire.model_info_from_proto(started.model), started.window
        self._next_sequence = started.next_sequence
        self._ready.set()
        self._receiver = asyncio.ensure_future(self._receive())

    @staticmethod
    async def _start(
        call: StreamCall, config: segmentation_pb2.StreamConfig
    ) -> segmentation_pb2.StreamStarted:
        """Raises grpc.RpcError."""
        await call.write(segmentation_pb2.SegmentStreamRequest(config=config))
        first = await call.read()
        if first is grpc.aio.EOF:
            raise await call.ending()
        started: segmentation_pb2.StreamStarted = first.started
        return started

    @property
    def next_sequence(self) -> int:
        """The number of the frame that is sent next; after a stream broke, the first that is missing."""
        return self._next_sequence

    async def send(self, image: ImageLike) -> int:
        """Send the next frame; returns its number."""
        frame = segmentation_pb2.StreamFrame(image=wire.image_to_proto(as_image(image)))
        async with self._sending:
            # A frame whose sending was cancelled has no number, or there would be a gap.
            frame.sequence = self._next_sequence
            request = segmentation_pb2.SegmentStreamRequest(frame=frame)
            try:
                await self._write(request)
            except BaseException:
                # While the stream is being resumed it goes out all the same.
                self._next_sequence += self._unanswered.has(request)
                raise
            self._next_sequence += 1
        return frame.sequence

    async def add_prompt(
        self,
        obj_id: int,
        *,
        points: Sequence[Point | Sequence[float]] = (),
        box: Box | Sequence[float] | None = None,
        mask: BoolArray | BinaryMask | None = None,
        sequence: int | None = None,
        clear_previous: bool = False,
    ) -> FrameMasks:
        """Say where an object is; returns its mask.  Frames that are sent after this are tracked with it.

        ``sequence`` is the frame, one of the last 8, None for the last that was sent.  The other arguments
        are those of ``VideoSession.add_prompt``.  Raises InvalidPrompt, FrameOutOfMemory.
        """
        if sequence is None and self._next_sequence:
            sequence = self._next_sequence - 1  # also where it is said again, later
        said = segmentation_pb2.StreamPrompt(
            request_id=uuid.uuid4().hex,
            sequence=sequence,
            obj_id=obj_id,
            prompt=wire.prompt_to_proto(Prompt.of(points=points, box=box, mask=mask)),
            clear_previous=clear_previous,
        )
        answer = await self._ask(said.request_id, segmentation_pb2.SegmentStreamRequest(prompt=said))
        return wire.frame_masks_from_proto(answer.frame)

    async def remove_object(self, obj_id: int) -> list[int]:
        """Forget one object; returns those that remain.  Raises ObjectNotFound."""
        removal = segmentation_pb2.StreamRemoval(request_id=uuid.uuid4().hex, obj_id=obj_id)
        request = segmentation_pb2.SegmentStreamRequest(removal=removal)
        return list((await self._ask(removal.request_id, request)).obj_ids)

    async def finish(self) -> None:
        """No frame follows: the results that are under way still come, then iterating ends.

        To send anything after it raises ValueError.
        """
        await self._write(segmentation_pb2.SegmentStreamRequest(finish=segmentation_pb2.StreamFinish()))

    async def __aiter__(self) -> AsyncIterator[LiveResult]:
        """Results in the order of their frames."""
        while True:
            while not self._results:
                if self._has_ended:
                    if self._ending is not None:
                        raise self._ending
                    return
                self._changed.clear()
                await self._changed.wait()
            yield self._results.popleft()
            self._changed.set()

    async def leave(self) -> None:
        """Break off, unless the stream has come to its end; its session stays for its ``ttl``."""
        self.was_left = True
        self._call.cancel()
        if self._receiver is not None:
            self._receiver.cancel()
            await asyncio.gather(self._receiver, return_exceptions=True)

    async def _ask(self, request_id: str, request: segmentation_pb2.SegmentStreamRequest) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked[request_id] = future
        try:
            await self._write(request)
            return await future
        except asyncio.CancelledError:
            self._unanswered.answered(request_id)  # nobody wants it any more
            raise
        finally:
            self._asked.pop(request_id, None)

    async def _write(self, request: segmentation_pb2.SegmentStreamRequest) -> None:
        async with self._writing:
            await self._ready.wait()
            if self._is_finished:
                raise ValueError("nothing can be sent after finish()")
            if self._has_ended:
                raise self._ending or Unavailable("the stream has ended")
            call = self._call
            self._is_finished = request.WhichOneof("content") == "finish"
            self._unanswered.add(request)
            try:
                await _send(call, request)
            except grpc.RpcError as error:
                # The receiver notices, too, and sends it again.
                await self._resumed(call)
                if self._call is call:
                    self._unanswered.remove(request)
                    raise self._ending or self._ending_of(call, error) from error
            except BaseException:
                self._unanswered.remove(request)
                raise

    async def _resumed(self, call: StreamCall) -> None:
        """Wait until the stream goes on with another call than ``call``, or has ended."""
        while self._call is call and not self._has_ended:
            self._changed.clear()
            await self._changed.wait()

    async def _receive(self) -> None:
        self._ending = Unavailable(LEFT)
        attempts = RESUMPTIONS
        resending: asyncio.Task[None] | None = None
        try:
            while True:
                call, before = self._call, self._config.resume_token
                try:
                    await self._take(call)
                    self._ending = None
                    return
                except grpc.RpcError as error:
                    self._ending = self._ending_of(call, error)
                if self._config.resume_token != before:
                    attempts = RESUMPTIONS
                if resending is not None:
                    resending.cancel()
                started = None
                while started is None:
                    # A gateway of the version before gives its first token with the first result.
                    has_place = bool(self._config.resume_token) or self._is_new
                    can_go_on = isinstance(self._ending, Unavailable) and has_place
                    if not can_go_on or self.was_left or call.was_cancelled or not attempts:
                        return
                    attempts -= 1
                    self._ready.clear()
                    await asyncio.sleep(RESUME_SECONDS)
                    started = await self._resume()
                resending = asyncio.ensure_future(self._send_again(started.next_sequence))
        except Exception as error:  # of the caller's own function, for example
            self._ending = error
        finally:
            if resending is not None:
                resending.cancel()
            self._has_ended = True
            self._ready.set()
            self._changed.set()
            for future in self._asked.values():
                if not future.done():
                    future.set_exception(self._ending or Unavailable("the stream has ended"))

    async def _take(self, call: StreamCall) -> None:
        """Take what comes until the end.  Raises grpc.RpcError for what ended the call otherwise."""
        while (response := await call.read()) is not grpc.aio.EOF:
            self._is_new = False
            match response.WhichOneof("content"):
                case "result":
                    self._config.resume_token = response.result.resume_token
                    self._unanswered.acknowledge(response.result.sequence)
                    self._refused = {s for s in self._refused if s > response.result.sequence}
                    self._results.append(_result(response.result))
                    self._changed.set()
                    while len(self._results) >= self._max_results:
                        self._changed.clear()
                        await self._changed.wait()
                case "prompted":
                    self._answer(response.prompted.request_id, response.prompted)
                case "removed":
                    self._answer(response.removed.request_id, response.removed)
                case "rejected":
                    self._reject(response.rejected)

    async def _resume(self) -> segmentation_pb2.StreamStarted | None:
        """Go on with another call; None, and why, where it cannot be now."""
        call = self._connect()
        first = self._unanswered.first_frame
        self._config.next_sequence = self._next_sequence if first is None else first
        try:
            started = await self._start(call, self._config)
        except grpc.RpcError as error:
            self._ending = self._ending_of(call, error)
            return None
        except BaseException:
            call.cancel()
            raise
        self._ending = Unavailable(LEFT)
        self._call = call
        self.session_id = started.session_id
        logger.info("the stream of session %s goes on", self.session_id)
        return started

    async def _send_again(self, next_sequence: int) -> None:
        """What the server has not answered, in its order; while results are taken."""
        call = self._call
        try:
            for request in self._unanswered.since(next_sequence):
                await _send(call, request)
        except grpc.RpcError:
            return  # the receiver notices
        self._ready.set()
        self._changed.set()

    def _ending_of(self, call: StreamCall, error: grpc.RpcError) -> Exception:
        """What to raise where gRPC raises ``error``."""
        return Unavailable(LEFT) if call.was_cancelled else from_rpc_error(error)

    def _answer(self, request_id: str, answer: Any) -> None:
        self._unanswered.answered(request_id)
        future = self._asked.get(request_id)
        if future is not None and not future.done():
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    def _reject(self, rejected: segmentation_pb2.StreamRejected) -> None:
        error = from_reason(rejected.reason, rejected.message, rejected.metadata)
        if rejected.HasField("sequence"):
            if rejected.sequence in self._refused:
                return
            self._refused.add(rejected.sequence)
            self._on_rejected(rejected.sequence, error)
        else:
            self._answer(rejected.request_id, error)


async def _send(call: StreamCall, request: segmentation_pb2.SegmentStreamRequest) -> None:
    await call.write(request)
    if request.WhichOneof("content") == "finish":
        await call.done_writing()


def _result(message: segmentation_pb2.StreamResult) -> LiveResult:
    return LiveResult(
        wire.frame_masks_from_proto(message.frame),
        message.sequence,
        tuple(message.skipped),
        message.resume_token,
    )


def _log_rejected(sequence: int, error: MaskmeshError) -> None:
    logger.warning("frame %d is left out: %s", sequence, error)
