"""The gateway's side of a Track stream: sends frames and receives results in order, also after the owner
changes.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import grpc

from gateway.backends.tracker_backend import TrackerBackend
from gateway.sessions.session import GatewaySession
from gateway.sessions.session_router import GONE, SessionRouter, retry_window
from maskmesh import telemetry, wire
from maskmesh.aio import RetryWindow, TaskSet
from maskmesh.errors import MaskmeshError, SessionBusy
from maskmesh.internal.v1 import embedding_pb2, tracker_pb2
from maskmesh.masks import MaskOptions
from maskmesh.rpc.status import translate_rpc_errors
from maskmesh.rpc.stream_call import StreamCall
from maskmesh.types import EmbeddingRef
from maskmesh.v1 import types_pb2

# A cancelled stream is open at the tracker until its step ends; a new stream is retried for this long.
BUSY_SECONDS = 60.0
BUSY_PAUSE_SECONDS = 0.05

# Tracked frames that the store may lack, see tracker_svc.sessions.session_replicator.
MAX_LAG = 8

# The stream that carries the frames.
TRACK_METHOD = "maskmesh.internal.v1.TrackerService/Track"

Encode = Callable[[int, bool], Awaitable[EmbeddingRef]]
"""Returns the embedding of a frame; encodes it again if the second argument (``is_gone``) is true."""


@dataclass(frozen=True, slots=True)
class Result:
    """One tracked frame."""

    frame: types_pb2.FrameMasks
    handling: embedding_pb2.Handling
    work: embedding_pb2.WorkSummary
    received_ns: int
    hotstart_delay: int = 0
    """Number of later results on which it depends which objects the frame shows."""


class _SentFrame(NamedTuple):
    ref: EmbeddingRef
    traceparent: str


class TrackCall:
    """Sends the frames of one session to its tracker, and to the next owner when the session moves.

    ``encode`` is called for embeddings that a tracker lacks, and for frames that are tracked again on a new
    owner.  By ``propagation_id``, the tracker identifies the frames that earlier streams have tracked.
    """

    def __init__(
        self,
        router: SessionRouter,
        session: GatewaySession,
        *,
        timeout: float | None,
        encode: Encode,
        propagation_id: str = "",
    ) -> None:
        self._router = router
        self._session = session
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._encode = encode
        self._propagation_id = propagation_id
        self._config = tracker_pb2.TrackConfig()
        self._step = 1
        self._call: StreamCall | None = None
        self._embedding_tasks = TaskSet(self._fail)
        self._failure: BaseException | None = None
        self._is_cancelled = False
        self._is_finished = False
        # Held while a message is written, or the stream is opened again.
        self._writing = asyncio.Lock()
        self._unanswered: dict[int, _SentFrame] = {}
        self._replayed: set[int] = set()
        self._first: int | None = None  # the first frame of the propagation
        self._last: int | None = None  # the last frame whose result was received, or the one before the first
        self._is_resumed = False
        self._host = ""  # of the tracker, once it has sent a result

    async def open(
        self,
        options: MaskOptions,
        *,
        reverse: bool = False,
        after_another: bool = False,
        tracked: range | None = None,
    ) -> int:
        """Open the stream; returns the earliest prompted frame.

        ``after_another`` is whether an earlier stream may still be open at the tracker.  ``tracked`` are the
        frames that earlier streams of the propagation have tracked. Raises SessionNotFound, SessionLost,
        NothingPrompted, SessionBusy.
        """
        self._config = tracker_pb2.TrackConfig(
            session_id=self._session.session_id,
            mask_options=wire.mask_options_to_proto(options),
            direction=wire.direction_to_proto(reverse=reverse),
            propagation_id=self._propagation_id,
        )
        self._step = -1 if reverse else 1
        if tracked:
            self._first, self._last, self._is_resumed = tracked[0], tracked[-1], True
        async with self._writing:
            started = await self._open_at_owner(after_another=after_another, window=retry_window())
            await self._send_again(started)
        first: int = started.first_prompted_frame_index
        return first

    async def send(self, frame_index: int, ref: EmbeddingRef, traceparent: str) -> None:
        """Send the next frame.  Errors of the stream are raised by :meth:`results`."""
        async with self._writing:
            if self._first is None:
                self._first = frame_index
                self._last = frame_index - self._step
            self._unanswered[frame_index] = _SentFrame(ref, traceparent)
            try:
                await self._write_frame(frame_index, ref, traceparent)
            except (MaskmeshError, grpc.RpcError):
                pass  # results() opens the stream again, which sends the frame, or raises the error

    async def finish(self) -> None:
        """Close the sending side; no more frames are sent."""
        self._is_finished = True
        async with self._writing:
            await self._stream.done_writing()

    async def results(self) -> AsyncIterator[Result]:
        """Yield tracked frames in order.  Raises the error that ended the stream."""
        window = retry_window()
        while True:
            owner = self._session.owner
            try:
                async for result in self._read(self._stream):
                    window.reset()
                    yield result
                return
            except (MaskmeshError, grpc.RpcError) as error:
                if self._failure is not None:
                    raise self._failure from None
                if self._is_finished and not self._unanswered:
                    return
                if self._is_cancelled or not isinstance(error, GONE):
                    raise
                await self._router.recover(self._session, owner, error, window)
                async with self._writing:
                    await self._send_again(await self._open_at_owner(after_another=True, window=window))

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

    async def _open_at_owner(self, *, after_another: bool, window: RetryWindow) -> tracker_pb2.TrackStarted:
        busy_window = RetryWindow(BUSY_SECONDS, first_pause=BUSY_PAUSE_SECONDS)
        while True:
            owner = self._session.owner
            try:
                return await self._open(self._router.tracker(owner), owner.epoch)
            except SessionBusy as error:
                if self._is_cancelled or not after_another:
                    raise
                await busy_window.wait(error)
                if self._is_cancelled:
                    raise
            except GONE as error:
                if self._is_cancelled:
                    raise
                await self._router.recover(self._session, owner, error, window)

    async def _open(self, tracker: TrackerBackend, epoch: int) -> tracker_pb2.TrackStarted:
        remaining = None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)
        self._call = call = tracker.track(remaining)
        config = tracker_pb2.TrackConfig()
        config.CopyFrom(self._config)
        config.epoch = epoch
        with translate_rpc_errors():
            await call.write(tracker_pb2.TrackRequest(config=config))
            response: Any = await call.read()
            if response is grpc.aio.EOF:
                raise await call.ending()
        started: tracker_pb2.TrackStarted = response.started
        return started

    async def _send_again(self, started: tracker_pb2.TrackStarted) -> None:
        """Send the frames that this tracker lacks: frames tracked by the previous owner, and frames without
        result.
        """
        self._replayed.clear()
        try:
            for index in self._missing_frames(started):
                self._replayed.add(index)
                await self._write_frame(index, await self._encode(index, False), "")
            for index, sent_frame in self._unanswered.items():
                await self._write_frame(index, sent_frame.ref, sent_frame.traceparent)
        except grpc.RpcError:
            pass  # results() raises the stream's error

    def _missing_frames(self, started: tracker_pb2.TrackStarted) -> range:
        """Frames whose results were received, and which the tracker has not tracked."""
        if self._first is None or self._last is None:
            return range(0)
        if started.HasField("last_frame_index"):
            tracked = started.last_frame_index
        elif self._is_resumed and abs(self._last - self._first) >= MAX_LAG:
            # Another propagation ran in between; the frames of this one are memorized nevertheless.
            return range(0)
        else:
            tracked = self._first - self._step
        return range(tracked + self._step, self._last + self._step, self._step)

    async def _read(self, call: StreamCall) -> AsyncIterator[Result]:
        with translate_rpc_errors():
            while (response := await call.read()) is not grpc.aio.EOF:
                received_ns = time.time_ns()
                match response.WhichOneof("content"):
                    case "result":
                        index = response.result.frame.frame_index
                        if index in self._replayed:
                            self._replayed.discard(index)
                            continue
                        self._unanswered.pop(index, None)
                        self._last = index
                        result = response.result
                        self._host = result.handling.host
                        yield Result(
                            result.frame, result.handling, result.work, received_ns, result.hotstart_delay
                        )
                    case "embedding_needed":
                        self._embedding_tasks.spawn(
                            self._send_embedding(call, response.embedding_needed.frame_index)
                        )

    def _fail(self, error: BaseException) -> None:
        """End the stream, because the tracker waits for an embedding that cannot be computed."""
        self._failure = error
        self._stream.cancel()

    async def _send_embedding(self, call: StreamCall, frame_index: int) -> None:
        ref = await self._encode(frame_index, True)
        message = tracker_pb2.FrameEmbedding(
            frame_index=frame_index, embedding=wire.embedding_ref_to_proto(ref)
        )
        async with self._writing:
            if call is not self._call:
                return  # the stream was opened again, and asks again if it needs the embedding
            try:
                await call.write(tracker_pb2.TrackRequest(embedding=message))
            except grpc.RpcError:
                pass  # results() raises the stream's error

    async def _write_frame(self, frame_index: int, ref: EmbeddingRef, traceparent: str) -> None:
        frame = tracker_pb2.TrackFrame(
            frame_index=frame_index,
            embedding=wire.embedding_ref_to_proto(ref),
            traceparent=traceparent,
            clock_offset_nanos=telemetry.offset_of(self._host),
        )
        await self._stream.write(tracker_pb2.TrackRequest(frame=frame))
