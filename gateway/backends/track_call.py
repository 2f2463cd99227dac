"""The gateway's end of one Track stream: frames go out in order, results come back in order, whatever tracker
has the session."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import grpc

from gateway.backends.tracker_backend import TrackerBackend
from gateway.sessions.session import GatewaySession
from gateway.sessions.session_router import GONE, SessionRouter, RetryWindow
from maskmesh import wire
from maskmesh.errors import MaskmeshError, SessionBusy, translate_rpc_errors
from maskmesh.internal.v1 import embedding_pb2, tracker_pb2
from maskmesh.masks import MaskOptions
from maskmesh.rpc.stream_call import StreamCall
from maskmesh.types import EmbeddingRef
from maskmesh.v1 import types_pb2

# A call that was cancelled just now holds the session's place until its step is over.
BUSY_SECONDS = 60.0
BUSY_PAUSE_SECONDS = 0.05

# A tracker has never tracked more frames than this that are not in the store.
MAX_REPLAYED = 8

Encode = Callable[[int, bool], Awaitable[EmbeddingRef]]
"""Where the embedding of a frame is; encoded again if the second argument says that it is gone."""


@dataclass(frozen=True, slots=True)
class Result:
    """One tracked frame."""

    frame: types_pb2.FrameMasks
    handling: embedding_pb2.Handling
    received_ns: int


class _Sent(NamedTuple):
    """A frame on its way."""

    ref: EmbeddingRef
    traceparent: str


class TrackCall:
    """Frames of one session through its tracker, and through the next one where that goes away.

    ``encode`` is asked where a tracker misses an embedding, and for frames that it has to track again.  With
    a ``propagation_id`` trackers know by it which frames were tracked before.
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
        self._answering: set[asyncio.Task[None]] = set()
        self._failed: BaseException | None = None
        self._is_cancelled = False
        self._is_finished = False
        # One writes at a time, or opens the stream anew.
        self._writing = asyncio.Lock()
        self._unanswered: dict[int, _Sent] = {}
        self._replayed: set[int] = set()
        self._first: int | None = None  # the first frame of the propagation
        self._last: int | None = None  # the last frame whose result is here, or was where it began
        self._is_resumed = False

    async def open(
        self,
        options: MaskOptions,
        *,
        reverse: bool = False,
        after_another: bool = False,
        resumes: range | None = None,
    ) -> int:
        """Begin; returns the earliest frame that is prompted.

        ``after_another`` waits for a stream that was cancelled just now.  ``resumes`` are the frames of the
        propagation that were tracked in other streams: those that follow them will be sent.
        Raises SessionNotFound, SessionLost, NothingPrompted, SessionBusy.
        """
        self._config = tracker_pb2.TrackConfig(
            session_id=self._session.session_id,
            mask_options=wire.mask_options_to_proto(options),
            direction=wire.direction_to_proto(reverse=reverse),
            propagation_id=self._propagation_id,
        )
        self._step = -1 if reverse else 1
        if resumes:
            self._first, self._last, self._is_resumed = resumes[0], resumes[-1], True
        async with self._writing:
            started = await self._open_somewhere(after_another=after_another)
            await self._catch_up(started)
        first: int = started.first_prompted_frame_index
        return first

    async def send(self, frame_index: int, ref: EmbeddingRef, traceparent: str) -> None:
        """Send the next frame.  What ends the stream is raised by :meth:`results`."""
        async with self._writing:
            if self._first is None:
                self._first = frame_index
                self._last = frame_index - self._step
            self._unanswered[frame_index] = _Sent(ref, traceparent)
            try:
                await self._write_frame(frame_index, ref, traceparent)
            except (MaskmeshError, grpc.RpcError):
                pass  # it is sent again, or not needed

    async def finish(self) -> None:
        """No frame follows."""
        self._is_finished = True
        async with self._writing:
            await self._opened.done_writing()

    async def results(self) -> AsyncIterator[Result]:
        """Tracked frames in order; raises what ended the stream."""
        patience = RetryWindow()
        while True:
            owner = self._session.owner
            try:
                async for result in self._results_of(self._opened):
                    patience.renew()
                    yield result
                return
            except (MaskmeshError, grpc.RpcError) as error:
                if self._failed is not None:
                    raise self._failed from None
                if self._is_finished and not self._unanswered:
                    return
                if self._is_cancelled or not isinstance(error, GONE):
                    raise
                await self._router.recover(self._session, owner, error, patience)
                async with self._writing:
                    await self._catch_up(await self._open_somewhere(after_another=True, patience=patience))

    def cancel(self) -> None:
        """Stop whatever is under way."""
        self._is_cancelled = True
        if self._call is not None:
            self._call.cancel()
        for task in self._answering:
            task.cancel()

    async def close(self) -> None:
        """End the stream."""
        self.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)

    @property
    def _opened(self) -> StreamCall:
        assert self._call is not None, "open comes first"
        return self._call

    async def _open_somewhere(
        self, *, after_another: bool, patience: RetryWindow | None = None
    ) -> tracker_pb2.TrackStarted:
        patience = patience or RetryWindow()
        busy = RetryWindow()
        while True:
            owner = self._session.owner
            try:
                return await self._open(self._router.backend(owner), owner.epoch)
            except SessionBusy:
                if self._is_cancelled or busy.is_over(BUSY_SECONDS if after_another else 0.0):
                    raise
                await asyncio.sleep(BUSY_PAUSE_SECONDS)
                if self._is_cancelled:
                    raise
            except GONE as error:
                if self._is_cancelled:
                    raise
                await self._router.recover(self._session, owner, error, patience)

    async def _open(self, tracker: TrackerBackend, epoch: int) -> tracker_pb2.TrackStarted:
        left = None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)
        self._call = call = tracker.track(left)
        config = tracker_pb2.TrackConfig()
        config.CopyFrom(self._config)
        config.epoch = epoch
        with translate_rpc_errors():
            await call.write(tracker_pb2.TrackRequest(config=config))
            started: Any = await call.read()
            if started is grpc.aio.EOF:
                # The stream ended before it began: its status says why.
                raise await call.ending()
        found: tracker_pb2.TrackStarted = started.started
        return found

    async def _catch_up(self, started: tracker_pb2.TrackStarted) -> None:
        """Send again what this tracker does not know: frames tracked elsewhere, and those on their way."""
        self._replayed.clear()
        try:
            for index in self._unknown(started):
                self._replayed.add(index)
                await self._write_frame(index, await self._encode(index, False), "")
            for index, sent in self._unanswered.items():
                await self._write_frame(index, sent.ref, sent.traceparent)
        except grpc.RpcError:
            pass  # results() finds out why

    def _unknown(self, started: tracker_pb2.TrackStarted) -> range:
        """Frames whose results are here, and which the tracker does not know to have been tracked."""
        if self._first is None or self._last is None:
            return range(0)
        if started.HasField("last_frame_index"):
            known = started.last_frame_index
        elif self._is_resumed and abs(self._last - self._first) >= MAX_REPLAYED:
            # Another propagation came between: what was tracked in this one is known all the same.
            return range(0)
        else:
            known = self._first - self._step
        return range(known + self._step, self._last + self._step, self._step)

    async def _results_of(self, call: StreamCall) -> AsyncIterator[Result]:
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
                        yield Result(response.result.frame, response.result.handling, received_ns)
                    case "embedding_needed":
                        self._begin_answer(call, response.embedding_needed.frame_index)

    def _begin_answer(self, call: StreamCall, frame_index: int) -> None:
        task = asyncio.ensure_future(self._send_answer(call, frame_index))
        self._answering.add(task)
        task.add_done_callback(self._answered)

    def _answered(self, task: "asyncio.Task[None]") -> None:
        self._answering.discard(task)
        if not task.cancelled() and task.exception() is not None:
            # Nobody else can give the tracker what it waits for.
            self._failed = task.exception()
            self._opened.cancel()

    async def _send_answer(self, call: StreamCall, frame_index: int) -> None:
        ref = await self._encode(frame_index, True)
        answer = tracker_pb2.FrameEmbedding(
            frame_index=frame_index, embedding=wire.embedding_ref_to_proto(ref)
        )
        try:
            await call.write(tracker_pb2.TrackRequest(embedding=answer))
        except grpc.RpcError:
            pass  # the stream has ended: results() finds out why

    async def _write_frame(self, frame_index: int, ref: EmbeddingRef, traceparent: str) -> None:
        frame = tracker_pb2.TrackFrame(
            frame_index=frame_index, embedding=wire.embedding_ref_to_proto(ref), traceparent=traceparent
        )
        await self._opened.write(tracker_pb2.TrackRequest(frame=frame))
