"""The base class of propagations and live streams."""

import asyncio
import time
import uuid
from abc import abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

from opentelemetry import trace
from opentelemetry.trace import SpanContext

from gateway.backends.encoders import Encoded, EncodeOptions, Encoders
from gateway.erase.erase_view import EraseView
from gateway.sessions.pins import Pins
from gateway.sessions.session import GatewaySession, OpenStream
from gateway.sessions.session_router import SessionRouter
from gateway.streams.frame_trace import FrameTrace
from gateway.streams.stream_trace import StreamTrace
from gateway.streams.track_call import Result, TrackCall
from maskmesh import wire
from maskmesh.aio import StreamOutput
from maskmesh.errors import MaskmeshError
from maskmesh.types import EmbeddingRef, Image
from maskmesh.v1 import erase_pb2, types_pb2

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StreamContext:
    """The clients and options of a stream.

    At most ``window`` frames are in progress at once, from reading to delivery, or until their results are
    held.  The traces of frames link to ``links``.
    """

    encoders: Encoders
    router: SessionRouter
    encode_options: EncodeOptions
    links: tuple[SpanContext, ...]
    window: int


class StreamContexts:
    """Makes the contexts of streams; embeddings of their frames are pinned for ``pin_seconds``."""

    def __init__(self, encoders: Encoders, router: SessionRouter, *, pin_seconds: float) -> None:
        self._encoders = encoders
        self._router = router
        self._pin_seconds = pin_seconds

    def make(self, session: GatewaySession, window: int, timeout: float | None) -> StreamContext:
        """The context of a stream that the current call opens; ``timeout`` is in seconds."""
        options = EncodeOptions(
            interactive=False,
            tenant=session.caller.tenant,
            owner=session.session_id,
            pin_seconds=self._pin_seconds,
            timeout=timeout,
        )
        links = (session.span, trace.get_current_span().get_span_context())
        return StreamContext(self._encoders, self._router, options, links, window)


class FrameStream(OpenStream, Generic[T]):
    """The tasks, traces and window slots of one stream, which outputs items of type ``T``."""

    def __init__(self, session: GatewaySession, context: StreamContext, *, propagation_id: str) -> None:
        """``propagation_id`` is the same for all streams that continue one propagation."""
        self._session = session
        self._context = context
        self._call = TrackCall(
            context.router,
            session,
            timeout=context.encode_options.timeout,
            encode=self._encode_again,
            propagation_id=propagation_id,
        )
        self._pins = Pins(context.encoders, session)
        self._output: StreamOutput[T] = StreamOutput()
        self._slots = asyncio.Semaphore(context.window)
        self._traces: dict[int, FrameTrace] = {}
        # A resumed stream is another group of traces than the stream that broke.
        self._trace_group = uuid.uuid4().hex[:16]
        self._stream_trace = StreamTrace(self._trace_group)

    def stop(self, error: MaskmeshError) -> None:
        self._call.cancel()
        self._output.tasks.cancel()
        self._output.fail(error)

    async def _end(self) -> None:
        """Stop the tasks, wait for steps that cannot be interrupted, and release the pins."""
        self.is_ending = True
        self._call.cancel()
        self._output.tasks.cancel()
        await self._call.close()
        await self._output.close()
        for frame_trace in self._traces.values():
            frame_trace.abandoned()
        self._stream_trace.end()
        if self._session.is_streaming(self):
            self._pins.release_all()

    def _begin_trace(self, frame_index: int, start_ns: int) -> FrameTrace:
        frame_trace = self._traces[frame_index] = self._new_trace(frame_index, start_ns)
        return frame_trace

    def _new_trace(self, frame_index: int, start_ns: int) -> FrameTrace:
        return FrameTrace(
            frame_index,
            self._session,
            propagation_id=self._trace_group,
            links=self._context.links,
            start_ns=start_ns,
            is_first=self._stream_trace.begin_frame(),
        )

    def _sent(self, frame_trace: FrameTrace, encoded: Encoded) -> str:
        """Record that a frame is sent to the tracker; returns its traceparent."""
        return frame_trace.sent_to_tracker(encoded.ready_ns, self._session.owner.address)

    def _complete(self, result: Result, *, was_held: bool = False) -> types_pb2.FrameMasks:
        """The frame for the client: the tracker's result with the trace id and stages of this gateway."""
        self._traces[result.frame.frame_index].received(result, was_held=was_held)
        return self._with_trace(result)

    async def _erase(self, view: EraseView, image: Image, result: Result) -> erase_pb2.ErasedImage | None:
        """A frame, whose result was received, without the objects."""
        frame_trace = self._traces[result.frame.frame_index]
        recorder = view.recorder()
        recorder.wait(result.received_ns, time.time_ns(), "previous_frame")
        erased = await view.push(image, result.frame, recorder)
        frame_trace.ran_after_tracker(recorder.records)
        return erased

    def _with_trace(self, result: Result) -> types_pb2.FrameMasks:
        """A result with the trace id, the stages of this gateway and the time of the frame."""
        frame = self._traces[result.frame.frame_index].complete(result.frame)
        index, frames = frame.frame_index, self._session.frames
        wire.fill_frame_time(frame, frames.time(index), repeats_previous=frames.repeats_previous(index))
        return frame

    def _delivered(self, result: Result, *, has_slot: bool = True) -> None:
        """Record that a frame was delivered to the client, and release its window slot if it has one."""
        index = result.frame.frame_index
        frame_trace = self._traces.pop(index)
        duration_ns = frame_trace.delivered(
            conditioning=result.frame.conditioning, num_objects=len(result.frame.objects)
        )
        self._stream_trace.add(frame_trace, duration_ns)
        self._session.last_frame_index = index
        self._session.renew()
        if has_slot:
            self._free(index)

    def _free(self, frame_index: int) -> None:
        """Release the window slot of a frame, and the pin of its embedding."""
        self._slots.release()
        if (ref := self._session.refs.get(frame_index)) is not None:
            self._pins.release(ref)

    @abstractmethod
    async def _encode_again(self, frame_index: int, is_gone: bool) -> EmbeddingRef:
        """The embedding of an earlier frame; the frame is encoded again if the embedding ``is_gone``."""
