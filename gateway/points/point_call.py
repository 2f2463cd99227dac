"""The gateway's side of a TrackPoints stream: sends frames and receives points in order.

When its tracker is lost, another one gets the frames again on which results depend.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import grpc

from gateway.backends.trackers import Trackers
from maskmesh import telemetry, wire
from maskmesh.aio import RetryWindow, TaskSet
from maskmesh.errors import InvalidRequest, MaskmeshError, ResourceExhausted, Unavailable
from maskmesh.internal.v1 import embedding_pb2, points_pb2
from maskmesh.rpc.status import translate_rpc_errors
from maskmesh.rpc.stream_call import StreamCall
from maskmesh.types import EmbeddingRef
from maskmesh.v1 import points_pb2 as public_pb2

METHOD = "maskmesh.internal.v1.PointService/TrackPoints"

# How long a lost tracker is replaced, and the pause between the attempts.
RETRY_SECONDS = 30.0
PAUSE_SECONDS = 0.1

# Trackers that may be lost in succession without a result between them.
MAX_LOSSES = 5

Encode = Callable[[int], Awaitable[EmbeddingRef]]
"""Returns the embedding of a frame, which is encoded if it is not cached."""


@dataclass(frozen=True, slots=True)
class PointResult:
    """The points on one frame."""

    frame: public_pb2.FramePoints
    handling: embedding_pb2.Handling
    work: embedding_pb2.WorkSummary
    received_ns: int


class _SentFrame(NamedTuple):
    ref: EmbeddingRef
    traceparent: str


class PointCall:
    """Sends frames to a tracker, and to another one when that is lost.

    ``queries`` are the points by the frame on which they are chosen.  ``last`` is the last frame whose result
    an earlier call has delivered, None if there is none.
    """

    def __init__(
        self,
        trackers: Trackers,
        session_id: str,
        queries: Mapping[int, Sequence[public_pb2.PointQuery]],
        *,
        last: int | None,
        encode: Encode,
        timeout: float | None,
    ) -> None:
        self._trackers = trackers
        self._session_id = session_id
        self._queries = queries
        self._last = last
        self._encode = encode
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._call: StreamCall | None = None
        self._unanswered: dict[int, _SentFrame] = {}
        self._embedding_tasks = TaskSet(self._fail)
        self._failure: BaseException | None = None
        self._is_cancelled = False
        self._is_finished = False
        # Held while a message is written, or the stream is opened again.
        self._writing = asyncio.Lock()
        self._host = ""
        self.address = ""
        """The tracker that follows the points."""
        self.tokenizer_points = 0
        """The number of points that its motion tokenizer reads; 0 without a tokenizer."""

    async def open(self) -> None:
        """Open the stream.  Raises Unavailable if no tracker can be reached."""
        async with self._writing:
            await self._open_somewhere(_window())

    async def send(self, frame_index: int, ref: EmbeddingRef, traceparent: str) -> None:
        """Send the next frame.  Errors of the stream are raised by :meth:`results`."""
        async with self._writing:
            self._unanswered[frame_index] = _SentFrame(ref, traceparent)
            self._sending(frame_index)
            try:
                await self._write(frame_index, ref, points_pb2.FRAME_PURPOSE_RESULT, traceparent)
            except (MaskmeshError, grpc.RpcError):
                pass  # results() opens the stream again, which sends the frame, or raises the error

    async def finish(self) -> None:
        """Close the sending side; no more frames are sent."""
        self._is_finished = True
        async with self._writing:
            await self._stream.done_writing()

    async def results(self) -> AsyncIterator[PointResult]:
        """Yield results in order.  Raises the error that ended the stream."""
        window, losses = _window(), 0
        while True:
            opened = time.monotonic()
            try:
                async for result in self._read(self._stream):
                    window.reset()
                    losses = 0
                    yield result
                return
            except (MaskmeshError, grpc.RpcError) as error:
                if self._failure is not None:
                    raise self._failure from None
                if self._is_finished and not self._unanswered:
                    return
                losses = 1 if time.monotonic() - opened > RETRY_SECONDS else losses + 1
                if self._is_cancelled or not isinstance(error, Unavailable) or losses > MAX_LOSSES:
                    raise
                await window.wait(error)
                async with self._writing:
                    await self._open_somewhere(window, lost=self.address)
                if self._is_cancelled:
                    self._stream.cancel()
                    raise
                # Frames are replayed before the first result, which takes long.
                window = _window()

    def cancel(self) -> None:
        """Cancel the stream."""
        self._is_cancelled = True
        if self._call is not None:
            self._call.cancel()
        self._embedding_tasks.cancel()

    async def close(self) -> None:
        """Cancel the stream and wait for its tasks."""
        self.cancel()
        await self._embedding_tasks.close()

    @property
    def _stream(self) -> StreamCall:
        assert self._call is not None, "open() must be called first"
        return self._call

    async def _open_somewhere(self, window: RetryWindow, lost: str = "") -> None:
        """Open the stream at the tracker with the fewest points, another one than ``lost`` if there is one.

        Raises Unavailable, and ResourceExhausted if no tracker has room for the points.
        """
        excluded, refusal = {lost}, None
        while True:
            if self._is_cancelled:
                raise Unavailable("the stream of the points was cancelled", service="tracker")
            try:
                self.address = await self._trackers.choose_for_points(excluded)
            except Unavailable as error:
                if refusal is not None and not lost:
                    raise refusal from None
                if refusal is not None or excluded == {""}:
                    await window.wait(refusal or error)
                excluded, refusal = {""}, None
                continue
            try:
                await self._open(await self._started())
            except ResourceExhausted as error:
                self._stream.cancel()
                refusal = error
                excluded.add(self.address)
            except Unavailable as error:
                self._stream.cancel()
                if self._is_cancelled:
                    raise
                excluded = {self.address}
                await window.wait(error)
            else:
                return

    async def _started(self) -> points_pb2.PointTrackStarted:
        remaining = None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)
        self._call = call = self._trackers.backend(self.address).track_points(remaining)
        config = points_pb2.PointTrackConfig(
            session_id=self._session_id, points=sum(map(len, self._queries.values()))
        )
        with translate_rpc_errors():
            await call.write(points_pb2.TrackPointsRequest(config=config))
            try:
                response: Any = await call.read()
            except InvalidRequest as error:
                raise InvalidRequest(error.message, field="points") from error
            if response is grpc.aio.EOF:
                raise await call.ending()
        started: points_pb2.PointTrackStarted = response.started
        self.tokenizer_points = started.tokenizer_points
        return started

    async def _open(self, started: points_pb2.PointTrackStarted) -> None:
        """Send what a tracker needs that has no state: points, and the frames on which results depend."""
        first = min(self._queries)
        with translate_rpc_errors():
            if self._last is not None:
                memory = started.memory_frames or self._last - first + 1
                replayed = range(max(first, self._last - memory + 1), self._last + 1)
                for index in sorted(i for i in self._queries if i < replayed.start):
                    await self._write(index, await self._encode(index), points_pb2.FRAME_PURPOSE_QUERIES)
                for index in replayed:
                    await self._write(index, await self._encode(index), points_pb2.FRAME_PURPOSE_REPLAY)
            await self._send_unanswered()

    async def _send_unanswered(self) -> None:
        """Send the frames again that have no result."""
        for index, sent in self._unanswered.items():
            await self._write(index, sent.ref, points_pb2.FRAME_PURPOSE_RESULT, sent.traceparent)

    async def _read(self, call: StreamCall) -> AsyncIterator[PointResult]:
        with translate_rpc_errors():
            while (response := await call.read()) is not grpc.aio.EOF:
                received_ns = time.time_ns()
                match response.WhichOneof("content"):
                    case "result":
                        result = response.result
                        self._unanswered.pop(result.frame.frame_index, None)
                        self._last = result.frame.frame_index
                        self._host = result.handling.host
                        yield PointResult(result.frame, result.handling, result.work, received_ns)
                    case "room":
                        self._on_room(response.room)
                    case "embedding_needed":
                        index = response.embedding_needed.frame_index
                        self._embedding_tasks.spawn(self._send_embedding(call, index))

    def _on_room(self, answer: points_pb2.PointRoomTaken) -> None:
        """The tracker has answered a change of the number of points."""

    def _fail(self, error: BaseException) -> None:
        """End the stream, because the tracker waits for an embedding that cannot be computed."""
        self._failure = error
        self._stream.cancel()

    async def _send_embedding(self, call: StreamCall, frame_index: int) -> None:
        ref = await self._encode(frame_index)
        message = points_pb2.PointEmbedding(
            frame_index=frame_index, embedding=wire.embedding_ref_to_proto(ref)
        )
        async with self._writing:
            if call is not self._call:
                return  # the stream was opened again, and asks again if it needs the embedding
            try:
                await call.write(points_pb2.TrackPointsRequest(embedding=message))
            except grpc.RpcError:
                pass  # results() raises the stream's error

    async def _write(
        self, frame_index: int, ref: EmbeddingRef, purpose: points_pb2.FramePurpose, traceparent: str = ""
    ) -> None:
        frame = points_pb2.PointFrame(
            frame_index=frame_index,
            embedding=wire.embedding_ref_to_proto(ref),
            traceparent=traceparent,
            clock_offset_nanos=telemetry.offset_of(self._host),
            points=self._queries.get(frame_index, ()),
            purpose=purpose,
            removed_point_ids=self._take_removed(),
        )
        await self._stream.write(points_pb2.TrackPointsRequest(frame=frame))

    def _sending(self, frame_index: int) -> None:
        """The next frame is sent."""

    def _take_removed(self) -> Collection[int]:
        """The points that the next frame removes."""
        return ()


def _window() -> RetryWindow:
    return RetryWindow(RETRY_SECONDS, first_pause=PAUSE_SECONDS)
