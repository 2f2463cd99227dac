"""A propagation: frames read and encoded ahead, tracked in order, delivered in order."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from opentelemetry.trace import SpanContext

from gateway.backends.embeddings import encode_frame, frame_ref, read_frame
from gateway.backends.encoders import Encoded, Encoders, EncodeOptions
from gateway.backends.pins import Pins
from gateway.backends.track_call import Result, TrackCall
from gateway.sessions.resume_point import ResumePoint
from gateway.sessions.session import GatewaySession
from gateway.sessions.session_router import SessionRouter
from gateway.streams.frame_stream import FrameStream
from gateway.streams.frame_trace import FrameTrace
from maskmesh.masks import MaskOptions
from maskmesh.telemetry import add_seconds
from maskmesh.types import EmbeddingRef
from maskmesh.v1 import types_pb2


@dataclass(frozen=True, slots=True)
class FrameSelection:
    """Which frames to propagate over; ``start`` None means the first prompted one, 0 frames all."""

    start: int | None
    max_frames: int
    reverse: bool = False

    def frames(self, first_prompted: int, num_frames: int) -> range:
        """The frames of a session with ``num_frames``, in order."""
        start = first_prompted if self.start is None else self.start
        step = -1 if self.reverse else 1
        end = -1 if self.reverse else num_frames
        if self.max_frames:
            end = max(start - self.max_frames, end) if self.reverse else min(start + self.max_frames, end)
        return range(start, end, step)


@dataclass(frozen=True, slots=True)
class Propagated:
    """One frame, and where to go on after it."""

    frame: types_pb2.FrameMasks
    resume_token: str


# A frame, and the work that ends in its embedding and the time when it was there.
_Encoding: TypeAlias = tuple[int, "asyncio.Task[Encoded]"]


class Propagation(FrameStream[Result]):
    """One call of PropagateVideo.

    At most ``window`` frames are under way, from reading to delivery: so many are encoded ahead, and a
    slow client slows everything before it down.  Three tasks carry the frames on: one reads and encodes
    them, one sends their references to the tracker in order, one takes what comes back.
    """

    def __init__(
        self,
        session: GatewaySession,
        encoder: Encoders,
        router: SessionRouter,
        *,
        window: int,
        encode_options: EncodeOptions,
        links: list[SpanContext],
        resumes: ResumePoint | None = None,
    ) -> None:
        self._propagation_id = resumes.propagation_id if resumes is not None else uuid.uuid4().hex[:16]
        call = TrackCall(
            router,
            session,
            timeout=encode_options.timeout,
            encode=self._encode_again,
            propagation_id=self._propagation_id,
        )
        super().__init__(session, call, Pins(encoder, session))
        self._encoder = encoder
        self._window = window
        self._encode_options = encode_options
        self._links = links
        self._resumes = resumes
        self._id = uuid.uuid4().hex[:16]
        self._slots = asyncio.Semaphore(window)
        self._encoded: asyncio.Queue[_Encoding | None] = asyncio.Queue()

    async def run(self, extent: FrameSelection, options: MaskOptions, *, start_ns: int) -> AsyncIterator[Propagated]:
        """The frames in order, where nothing is resumed those of ``extent``.

        ``start_ns`` is when the call came in.
        """
        opening_ns = time.time_ns()
        resumes = self._resumes
        reverse = extent.reverse if resumes is None else resumes.step < 0
        if resumes is not None:
            for index in (*resumes.frames[:1], *resumes.frames[-1:]):
                self._session.frames.check_index(index, field="resume_token")
        after_another = self._session.had_stream
        async with self._session.streaming(self, takes_over=resumes is not None):
            try:
                with self.explained():
                    first_prompted = await self._call.open(
                        options,
                        reverse=reverse,
                        after_another=after_another,
                        resumes=None if resumes is None else resumes.done,
                    )
                if resumes is not None:
                    frames, start = resumes.frames, resumes.start
                else:
                    frames = extent.frames(first_prompted, self._session.frames.num_frames)
                    start = frames.start
                opening = (opening_ns, time.time_ns())
                self._spawn(self._read_ahead(frames, start_ns, opening))
                self._spawn(self._send())
                self._spawn(self._receive(len(frames)))
                while (result := await self._outgoing.get()) is not None:
                    if isinstance(result, BaseException):
                        raise result
                    index = result.frame.frame_index
                    point = ResumePoint(
                        self._session.session_id,
                        index + frames.step,
                        frames.stop,
                        frames.step,
                        start,
                        self._propagation_id,
                    )
                    yield Propagated(self._open(result), str(point))
                    self._delivered(result)
            finally:
                await self._end()

    async def _read_ahead(self, frames: range, start_ns: int, opening: tuple[int, int]) -> None:
        """Read frames one after the other and begin to encode each, while there is room in the window.

        The first frame's trace begins with the call, and with the opening of the stream to the tracker.
        """
        reader = self._session.frames.open_reader(reverse=frames.step < 0)
        try:
            for index in frames:
                await self._slots.acquire()
                await self._session.caller.keep_pace()
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
                    read = await trace.task(read_frame(index, partial(reader.read, index)))
                    trace.stage_seconds = dict(read.stage_seconds)
                    encode = encode_frame(
                        self._session, self._encoder, index, read.image, read.key, self._encode_options
                    )
                else:
                    encode = frame_ref(self._session, self._encoder, index, self._encode_options)
                task = trace.task(encode)
                self._tasks.add(task)
                await self._encoded.put((index, task))
            await self._encoded.put(None)
        finally:
            reader.close()

    async def _send(self) -> None:
        """Send references to the tracker in order, each as soon as it is there."""
        while (item := await self._encoded.get()) is not None:
            index, task = item
            try:
                encoded = await task
            finally:
                self._tasks.discard(task)
            trace = self._traces[index]
            trace.stage_seconds = add_seconds(trace.stage_seconds, encoded.stage_seconds)
            await self._call.send(index, encoded.ref, trace.sent_to_tracker(encoded.ready_ns))

    async def _receive(self, expected: int) -> None:
        """Take results as they come, up to the last one."""
        if not expected:
            await self._call.finish()
        async for result in self._call.results():
            await self._outgoing.put(result)
            expected -= 1
            if not expected:
                await self._call.finish()
        await self._outgoing.put(None)

    async def _encode_again(self, frame_index: int, is_gone: bool) -> EmbeddingRef:
        """Where the embedding of a frame is that was encoded before; encoded again where it is gone."""
        if is_gone:
            self._session.forget_ref(frame_index)
        work = frame_ref(self._session, self._encoder, frame_index, self._encode_options)
        # The frame that waits for it may be another one than the frame that is encoded.
        waiting = self._traces.get(frame_index) or next(iter(self._traces.values()), None)
        return (await (waiting.task(work) if waiting else work)).ref

    def _open(self, result: Result) -> types_pb2.FrameMasks:
        trace = self._traces[result.frame.frame_index]
        trace.received(result.handling, result.received_ns)
        return trace.signed(result.frame)

    def _delivered(self, result: Result) -> None:
        """The client has taken the frame: its place in the window is free."""
        index = result.frame.frame_index
        self._traces.pop(index).delivered(
            conditioning=result.frame.conditioning, objects=len(result.frame.objects)
        )
        self._session.last_frame_index = index
        self._session.renew()
        self._slots.release()
        if (ref := self._session.refs.get(index)) is not None:
            self._pins.release(ref)
