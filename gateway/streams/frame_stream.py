"""The base class of propagations and live streams."""

import asyncio
import uuid
from abc import abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

from opentelemetry.trace import SpanContext

from gateway.backends.encoders import EncodeOptions, Encoders
from gateway.sessions.pins import Pins
from gateway.sessions.session import GatewaySession, OpenStream
from gateway.sessions.session_router import SessionRouter
from gateway.streams.frame_trace import FrameTrace
from gateway.streams.track_call import Result, TrackCall
from maskmesh import wire
from maskmesh.aio import StreamOutput
from maskmesh.errors import MaskmeshError
from maskmesh.types import EmbeddingRef
from maskmesh.v1 import types_pb2

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StreamContext:
    """The clients and options of a stream.

    At most ``window`` frames are in progress at once, from reading to delivery.  The traces of frames link to
    ``links``.
    """

    encoders: Encoders
    router: SessionRouter
    encode_options: EncodeOptions
    links: tuple[SpanContext, ...]
    window: int


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
        self._trace_group = uuid.uuid4().hex[:16]

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
        for trace in self._traces.values():
            trace.abandoned()
        if self._session.is_streaming(self):
            self._pins.release_all()

    def _begin_trace(self, frame_index: int, start_ns: int) -> FrameTrace:
        trace = self._traces[frame_index] = FrameTrace(
            frame_index,
            session_id=self._session.session_id,
            propagation_id=self._trace_group,
            links=self._context.links,
            start_ns=start_ns,
        )
        return trace

    def _complete(self, result: Result) -> types_pb2.FrameMasks:
        """The frame for the client: the tracker's result with the trace id and stages of this gateway."""
        trace = self._traces[result.frame.frame_index]
        trace.received(result.handling, result.received_ns)
        frame = trace.complete(result.frame)
        index, frames = frame.frame_index, self._session.frames
        wire.fill_frame_time(frame, frames.time(index), repeats_previous=frames.repeats_previous(index))
        return frame

    def _delivered(self, result: Result) -> None:
        """Record that a frame was delivered to the client, and release its window slot."""
        index = result.frame.frame_index
        self._traces.pop(index).delivered(
            conditioning=result.frame.conditioning, num_objects=len(result.frame.objects)
        )
        self._session.last_frame_index = index
        self._session.renew()
        self._slots.release()
        if (ref := self._session.refs.get(index)) is not None:
            self._pins.release(ref)

    @abstractmethod
    async def _encode_again(self, frame_index: int, is_gone: bool) -> EmbeddingRef:
        """The embedding of an earlier frame; the frame is encoded again if the embedding ``is_gone``."""
