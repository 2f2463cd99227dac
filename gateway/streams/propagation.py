"""Propagation: frames are read and encoded ahead, tracked in order and delivered in order."""

import asyncio
import contextlib
import time
import uuid
from abc import abstractmethod
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from gateway.backends.encoders import Encoded
from gateway.sessions.frame_embeddings import ReadFrame, encode_frame, frame_embedding, read_frame
from gateway.sessions.resume_point import ResumePoint
from gateway.sessions.session import GatewaySession
from gateway.streams.frame_stream import FrameStream, StreamContext
from gateway.streams.held_results import HeldResults
from gateway.streams.track_call import Result
from maskmesh.errors import MaskmeshError
from maskmesh.masks import MaskOptions
from maskmesh.types import EmbeddingRef, Image
from maskmesh.v1 import types_pb2


@dataclass(frozen=True, slots=True)
class FrameSelection:
    """The frames to propagate over.

    ``start`` None means the first prompted frame, ``max_frames`` 0 means all frames.
    """

    start: int | None
    max_frames: int
    reverse: bool = False

    def frames(self, first_prompted: int, num_frames: int) -> range:
        """The selected frames of a session with ``num_frames``, in order."""
        start = first_prompted if self.start is None else self.start
        step = -1 if self.reverse else 1
        end = -1 if self.reverse else num_frames
        if self.max_frames:
            end = max(start - self.max_frames, end) if self.reverse else min(start + self.max_frames, end)
        return range(start, end, step)


def frame_selection(
    session: GatewaySession, start: int | None, max_frames: int, *, reverse: bool = False
) -> FrameSelection:
    """The frames that a request selects.  Raises InvalidRequest."""
    if start is not None:
        session.frames.check_index(start, field="start_frame_index")
    return FrameSelection(start, max_frames, reverse)


R = TypeVar("R")

# A frame, and the task that ends with its embedding.
_Encoding: TypeAlias = tuple[int, "asyncio.Task[Encoded]"]


class Propagation(FrameStream[Result], Generic[R]):
    """One call that propagates; its responses are of type ``R``.

    Three tasks move the frames: one reads and encodes them, as many ahead as the window has slots; one sends
    their references to the tracker in order; one receives the results.  A slow client slows all of them down.
    """

    def __init__(
        self, session: GatewaySession, context: StreamContext, *, resume_point: ResumePoint | None = None
    ) -> None:
        self._propagation_id = uuid.uuid4().hex[:16] if resume_point is None else resume_point.propagation_id
        super().__init__(session, context, propagation_id=self._propagation_id)
        self._resume_point = resume_point
        self._encodings: asyncio.Queue[_Encoding | MaskmeshError | None] = asyncio.Queue()
        self._failure: MaskmeshError | None = None  # of the frame after those that are sent
        self._num_frames = self._num_sent = self._num_received = 0

    async def run(
        self, selection: FrameSelection, options: MaskOptions, *, start_ns: int
    ) -> AsyncGenerator[R, None]:
        """Yield the responses in order, for ``selection`` or the remaining frames of a resumed propagation.

        ``start_ns`` is when the call was received.
        """
        opening_ns = time.time_ns()
        resume = self._resume_point
        reverse = selection.reverse if resume is None else resume.step < 0
        if resume is not None:
            for index in (*resume.frames[:1], *resume.frames[-1:]):
                self._session.frames.check_index(index, field="resume_token")
        after_another = self._session.had_stream
        async with self._session.streaming(self, takes_over=resume is not None):
            try:
                with self.raising_interruption():
                    first_prompted = await self._call.open(
                        options,
                        reverse=reverse,
                        after_another=after_another,
                        tracked=None if resume is None else resume.done,
                    )
                if resume is not None:
                    frames, start = resume.frames, resume.start
                else:
                    frames = selection.frames(first_prompted, self._session.frames.num_frames)
                    start = frames.start
                opening = (opening_ns, time.time_ns())
                self._output.spawn(self._read_ahead(frames, start_ns, opening))
                self._output.spawn(self._send())
                self._output.spawn(self._receive(len(frames)))
                async with contextlib.aclosing(self._decided()) as decided:
                    async for result, was_held in decided:
                        token = ResumePoint(
                            self._session.session_id,
                            result.frame.frame_index + frames.step,
                            frames.stop,
                            frames.step,
                            start,
                            self._propagation_id,
                        )
                        yield self._response(self._complete(result, was_held=was_held), str(token))
                        self._delivered(result, has_slot=not was_held)
            finally:
                await self._end()

    async def _decided(self) -> AsyncGenerator[tuple[Result, bool], None]:
        """The results once it is known which objects they show, and whether each was held until then.

        A result that is held gives its window slot back, because later frames decide about it.
        """
        held = HeldResults()
        try:
            async for result in self._output:
                ready = held.add(result)
                if not any(each is result for each in ready):
                    self._free(result.frame.frame_index)
                for each in ready:
                    yield each, each is not result
        except MaskmeshError as error:
            if error is not self._failure:
                raise
        for each in held.flush():
            yield each, True
        if self._failure is not None:
            raise self._failure

    @abstractmethod
    def _response(self, frame: types_pb2.FrameMasks, resume_token: str) -> R:
        """The response for a frame."""

    def _keep(self, frame_index: int, image: Image) -> None:
        """A frame was read."""

    async def _read_ahead(self, frames: range, start_ns: int, opening: tuple[int, int]) -> None:
        """Read frames in order, and begin to encode each frame as soon as the window has a free slot.

        The first frame's trace begins with the call, and contains the opening of the stream to the tracker.
        """
        reader = self._session.frames.open_reader(reverse=frames.step < 0)
        encoders, options = self._context.encoders, self._context.encode_options
        try:
            for index in frames:
                await self._slots.acquire()
                await self._session.caller.wait_for_stream_frame()
                is_first = index == frames.start
                trace = self._begin_trace(index, start_ns if is_first else time.time_ns())
                if is_first:
                    trace.opened_stream(*opening)
                    trace.waited(opening[1], time.time_ns(), "event_loop")
                if index in self._session.refs:
                    task = trace.task(frame_embedding(self._session, encoders, index, options))
                else:
                    try:
                        frame: ReadFrame = await trace.task(read_frame(index, reader.read))
                    except MaskmeshError as error:
                        self._encodings.put_nowait(error)
                        return
                    self._keep(index, frame.image)
                    task = trace.task(encode_frame(self._session, encoders, index, frame, options))
                self._output.tasks.hold(task)
                await self._encodings.put((index, task))
            await self._encodings.put(None)
        finally:
            reader.close()

    async def _send(self) -> None:
        """Send references to the tracker in order, each as soon as the frame is encoded.

        A frame that cannot be read or encoded ends the propagation after the results of the earlier frames.
        """
        while (encoding := await self._encodings.get()) is not None:
            try:
                if isinstance(encoding, MaskmeshError):
                    raise encoding
                index, task = encoding
                encoded = await task
            except MaskmeshError as error:
                self._failure = error
                await self._finish_if_all_received()
                return
            self._num_sent += 1
            trace = self._traces[index]
            trace.encoded(encoded)
            await self._call.send(index, encoded.ref, self._sent(trace, encoded))

    async def _receive(self, num_frames: int) -> None:
        """Receive the results of ``num_frames`` frames."""
        self._num_frames = num_frames
        await self._finish_if_all_received()
        async for result in self._call.results():
            self._output.put(result)
            self._num_received += 1
            await self._finish_if_all_received()
        if self._failure is not None:
            raise self._failure
        self._output.finish()

    async def _finish_if_all_received(self) -> None:
        """Close the stream to the tracker after the last result; earlier, it may still ask for embeddings."""
        num_frames = self._num_frames if self._failure is None else self._num_sent
        if self._num_received == num_frames:
            await self._call.finish()

    async def _encode_again(self, frame_index: int, is_gone: bool) -> EmbeddingRef:
        if is_gone:
            self._session.drop_ref(frame_index)
        context = self._context
        work = frame_embedding(self._session, context.encoders, frame_index, context.encode_options)
        # A prompted frame is needed by the frame that is tracked now, and is part of that frame's trace.
        trace = self._traces.get(frame_index) or next(iter(self._traces.values()), None)
        return (await (trace.task(work) if trace else work)).ref
