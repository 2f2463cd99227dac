"""The gateway's end of one Track stream: frames go out in order, results come back in order."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc

from gateway.backends import TrackerBackend
from maskmesh import embedding_wire, session_wire, wire
from maskmesh.errors import MaskmeshError, SessionBusy, raising_ours
from maskmesh.internal.v1 import embedding_pb2, tracker_pb2
from maskmesh.masks import MaskOptions
from maskmesh.streams import StreamCall
from maskmesh.types import EmbeddingRef
from maskmesh.v1 import types_pb2

# A call that was cancelled just now holds the session's place until its step is over.
BUSY_SECONDS = 60.0
BUSY_PAUSE_SECONDS = 0.05

Answer = Callable[[int], Awaitable[EmbeddingRef]]
"""Encodes a frame again whose embedding is gone."""


@dataclass(frozen=True, slots=True)
class Result:
    """One tracked frame."""

    frame: types_pb2.FrameMasks
    handling: embedding_pb2.Handling
    received_ns: int


class TrackCall:
    """One stream to the tracker.  ``answer`` is asked where the tracker misses an embedding."""

    def __init__(self, tracker: TrackerBackend, *, timeout: float | None, answer: Answer) -> None:
        self._tracker = tracker
        self._timeout = timeout
        self._answer = answer
        self._call: StreamCall | None = None
        self._answering: set[asyncio.Task[None]] = set()
        self._failed: BaseException | None = None
        self._is_cancelled = False

    async def open(
        self, session_id: str, options: MaskOptions, *, reverse: bool = False, after_another: bool = False
    ) -> int:
        """Begin; returns the earliest frame that is prompted.

        ``after_another`` waits for a stream that was cancelled just now.
        Raises SessionNotFound, NothingPrompted, SessionBusy.
        """
        config = tracker_pb2.TrackConfig(
            session_id=session_id,
            mask_options=wire.mask_options_to_proto(options),
            direction=session_wire.direction_to_proto(reverse=reverse),
        )
        deadline = time.monotonic() + (BUSY_SECONDS if after_another else 0.0)
        while True:
            try:
                return await self._open(config)
            except SessionBusy:
                if self._is_cancelled or time.monotonic() >= deadline:
                    raise
                await asyncio.sleep(BUSY_PAUSE_SECONDS)
                if self._is_cancelled:
                    raise

    async def send(self, frame_index: int, ref: EmbeddingRef, traceparent: str) -> None:
        """Send the next frame."""
        frame = tracker_pb2.TrackFrame(
            frame_index=frame_index, embedding=embedding_wire.ref_to_proto(ref), traceparent=traceparent
        )
        await self._write(tracker_pb2.TrackRequest(frame=frame))

    async def finish(self) -> None:
        """No frame follows."""
        await self._opened.done_writing()

    async def results(self) -> AsyncIterator[Result]:
        """Tracked frames in order; raises what ended the stream."""
        try:
            with raising_ours():
                while (response := await self._opened.read()) is not grpc.aio.EOF:
                    received_ns = time.time_ns()
                    match response.WhichOneof("content"):
                        case "result":
                            yield Result(response.result.frame, response.result.handling, received_ns)
                        case "embedding_needed":
                            self._begin_answer(response.embedding_needed.frame_index)
        except (MaskmeshError, grpc.RpcError):
            if self._failed is not None:
                raise self._failed from None
            raise

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

    async def _open(self, config: tracker_pb2.TrackConfig) -> int:
        self._call = self._tracker.track(self._timeout)
        with raising_ours():
            await self._write(tracker_pb2.TrackRequest(config=config))
            started: Any = await self._call.read()
            if started is grpc.aio.EOF:
                # The stream ended before it began: its status says why.
                raise await self._call.ending()
        first: int = started.started.first_prompted_frame_index
        return first

    def _begin_answer(self, frame_index: int) -> None:
        task = asyncio.ensure_future(self._send_answer(frame_index))
        self._answering.add(task)
        task.add_done_callback(self._answered)

    def _answered(self, task: "asyncio.Task[None]") -> None:
        self._answering.discard(task)
        if not task.cancelled() and task.exception() is not None:
            # Nobody else can give the tracker what it waits for.
            self._failed = task.exception()
            self._opened.cancel()

    async def _send_answer(self, frame_index: int) -> None:
        ref = await self._answer(frame_index)
        answer = tracker_pb2.FrameEmbedding(
            frame_index=frame_index, embedding=embedding_wire.ref_to_proto(ref)
        )
        await self._write(tracker_pb2.TrackRequest(embedding=answer))

    async def _write(self, message: tracker_pb2.TrackRequest) -> None:
        """Write, or raise what ended the stream."""
        try:
            with raising_ours():
                await self._opened.write(message)
        except (MaskmeshError, grpc.RpcError):
            if self._failed is not None:
                raise self._failed from None
            raise
