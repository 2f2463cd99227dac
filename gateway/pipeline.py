"""A propagation: frames read and encoded ahead, tracked in order, delivered in order."""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import grpc
from opentelemetry.trace import SpanContext

from gateway.backends import Encoded, EncoderBackend, TrackerBackend, Urgency
from gateway.embeddings import encode_frame, frame_ref, read_frame
from gateway.frame_trace import FrameTrace
from gateway.session import GatewaySession
from maskmesh import wire
from maskmesh.errors import MaskmeshError, raising_ours
from maskmesh.internal.v1 import embedding_pb2, tracker_pb2
from maskmesh.types import MaskFormat
from maskmesh.v1 import types_pb2

logger = logging.getLogger(__name__)

# Pins are released in batches: they also expire, and a call for each frame costs more than it frees.
UNPIN_BATCH = 8


@dataclass(frozen=True, slots=True)
class Extent:
    """Which frames to propagate over; ``start`` None means the first prompted one, 0 frames all."""

    start: int | None
    max_frames: int


@dataclass(frozen=True, slots=True)
class _Result:
    frame: types_pb2.FrameMasks
    handling: embedding_pb2.Handling
    received_ns: int


# A frame, and the work that ends in its embedding and the time when it was there.
_Encoding: TypeAlias = tuple[int, "asyncio.Task[Encoded]"]


class Propagation:
    """One call of PropagateVideo.

    At most ``window`` frames are under way, from reading to delivery: so many are encoded ahead, and a
    slow client slows everything before it down.  Three tasks carry the frames on: one reads and encodes
    them, one sends their references to the tracker in order, one takes what comes back.
    """

    def __init__(
        self,
        session: GatewaySession,
        encoder: EncoderBackend,
        tracker: TrackerBackend,
        *,
        window: int,
        urgency: Urgency,
        links: list[SpanContext],
    ) -> None:
        self._session = session
        self._encoder = encoder
        self._tracker = tracker
        self._window = window
        self._urgency = urgency
        self._links = links
        self._id = uuid.uuid4().hex[:16]
        self._slots = asyncio.Semaphore(window)
        self._encoded: asyncio.Queue[_Encoding | None] = asyncio.Queue()
        self._results: asyncio.Queue[_Result | BaseException | None] = asyncio.Queue()
        self._traces: dict[int, FrameTrace] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._unpin: list[str] = []

    async def run(
        self, extent: Extent, mask_format: MaskFormat, *, start_ns: int
    ) -> AsyncIterator[types_pb2.FrameMasks]:
        """The frames in order; ``start_ns`` is when the call came in."""
        call = self._tracker.track(self._urgency.timeout)
        opening_ns = time.time_ns()
        try:
            with raising_ours():
                config = tracker_pb2.TrackConfig(
                    session_id=self._session.session_id, mask_format=wire.mask_format_to_proto(mask_format)
                )
                await _write(call, tracker_pb2.TrackRequest(config=config))
                started: Any = await call.read()
                if started is grpc.aio.EOF:
                    # The stream ended before it began: its status says why.
                    raise await _failure(call)
            frames = self._extent(extent, started.started.first_prompted_frame_index)
            opening = (opening_ns, time.time_ns())
            self._spawn(self._read_ahead(frames, start_ns, opening))
            self._spawn(self._send(call))
            self._spawn(self._receive(call, len(frames)))
            while (result := await self._results.get()) is not None:
                if isinstance(result, BaseException):
                    raise result
                yield self._open(result)
                self._delivered(result)
        finally:
            call.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for trace in self._traces.values():
                trace.abandoned()
            self._unpin_later([])

    def _extent(self, extent: Extent, first_prompted: int) -> range:
        start = first_prompted if extent.start is None else extent.start
        self._session.frames.check_index(start, field="start_frame_index")
        end = self._session.frames.num_frames
        return range(start, min(end, start + extent.max_frames) if extent.max_frames else end)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run work beside the others; its failure is the propagation's."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._settled)

    def _settled(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._results.put_nowait(error)

    async def _read_ahead(self, frames: range, start_ns: int, opening: tuple[int, int]) -> None:
        """Read frames one after the other and begin to encode each, while there is room in the window.

        The first frame's trace begins with the call, and with the opening of the stream to the tracker.
        """
        reader = self._session.frames.open_reader()
        try:
            for index in frames:
                await self._slots.acquire()
                is_first = index == frames.start
                trace = FrameTrace(
                    index,
                    session_id=self._session.session_id,
                    propagation_id=self._id,
                    links=self._links,
                    start_ns=start_ns if is_first else time.time_ns(),
                )
                if is_first:
                    trace.opened_stream(*opening)
                self._traces[index] = trace
                if index not in self._session.refs:
                    image, key = await trace.task(read_frame(index, partial(reader.read, index)))
                    encode = encode_frame(self._session, self._encoder, index, image, key, self._urgency)
                else:
                    encode = frame_ref(self._session, self._encoder, index, self._urgency)
                task = trace.task(encode)
                self._tasks.add(task)
                await self._encoded.put((index, task))
            await self._encoded.put(None)
        finally:
            reader.close()

    async def _send(self, call: Any) -> None:
        """Send references to the tracker in order, each as soon as it is there."""
        while (item := await self._encoded.get()) is not None:
            index, task = item
            try:
                ref, ready_ns = await task
            finally:
                self._tasks.discard(task)
            traceparent = self._traces[index].sent_to_tracker(ready_ns)
            frame = tracker_pb2.TrackFrame(
                frame_index=index, embedding=wire.ref_to_proto(ref), traceparent=traceparent
            )
            await _write(call, tracker_pb2.TrackRequest(frame=frame))

    async def _receive(self, call: Any, expected: int) -> None:
        """Take results as they come, and answer questions for embeddings up to the last one."""
        with raising_ours():
            async for response in call:
                received_ns = time.time_ns()
                match response.WhichOneof("content"):
                    case "result":
                        result = response.result
                        await self._results.put(_Result(result.frame, result.handling, received_ns))
                        expected -= 1
                        if not expected:
                            await call.done_writing()
                    case "embedding_needed":
                        self._spawn(self._answer(call, response.embedding_needed.frame_index))
        await self._results.put(None)

    async def _answer(self, call: Any, frame_index: int) -> None:
        """Encode a frame again whose embedding is gone."""
        self._session.forget_ref(frame_index)
        work = frame_ref(self._session, self._encoder, frame_index, self._urgency)
        # The frame that waits for it may be another one than the frame that is encoded.
        waiting = self._traces.get(frame_index) or next(iter(self._traces.values()), None)
        ref = (await (waiting.task(work) if waiting else work)).ref
        answer = tracker_pb2.FrameEmbedding(frame_index=frame_index, embedding=wire.ref_to_proto(ref))
        await _write(call, tracker_pb2.TrackRequest(embedding=answer))

    def _open(self, result: _Result) -> types_pb2.FrameMasks:
        trace = self._traces[result.frame.frame_index]
        trace.received(result.handling, result.received_ns)
        result.frame.trace_id = trace.trace_id
        return result.frame

    def _delivered(self, result: _Result) -> None:
        """The client has taken the frame: its place in the window is free."""
        index = result.frame.frame_index
        self._traces.pop(index).delivered(
            conditioning=result.frame.conditioning, objects=len(result.frame.objects)
        )
        self._session.renew()
        self._slots.release()
        if (ref := self._session.refs.get(index)) is not None:
            self._unpin.append(ref.key)
        if len(self._unpin) >= UNPIN_BATCH:
            keys, self._unpin = self._unpin, []
            self._unpin_later(keys)

    def _unpin_later(self, keys: list[str]) -> None:
        """Release pins (all of the session's without keys) beside everything else: they also expire."""
        unpinning = asyncio.ensure_future(unpin(self._encoder, self._session.session_id, keys))
        _unpinning.add(unpinning)
        unpinning.add_done_callback(_unpinning.discard)


# The event loop holds tasks weakly: somebody must hold them until they are done.
_unpinning: set["asyncio.Task[None]"] = set()


async def unpin(encoder: EncoderBackend, owner: str, keys: list[str]) -> None:
    """Release pins; a failure is worth a line in the log and no more."""
    try:
        await encoder.unpin(owner, keys)
    except (MaskmeshError, grpc.RpcError) as error:
        logger.info("pins of %s are left to expire: %s", owner, error)


async def _write(call: Any, message: tracker_pb2.TrackRequest) -> None:
    """Write, or raise what ended the stream."""
    try:
        await call.write(message)
    except asyncio.InvalidStateError:
        raise await _failure(call) from None


async def _failure(call: Any) -> Exception:
    """The error that ended a stream."""
    code = await call.code()
    return grpc.aio.AioRpcError(
        code,
        await call.initial_metadata() or grpc.aio.Metadata(),
        await call.trailing_metadata() or grpc.aio.Metadata(),
        details=await call.details(),
    )
