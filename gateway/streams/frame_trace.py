"""The gateway's part of a frame's trace: from its window slot to its delivery."""

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextvars import copy_context
from typing import Any, TypeVar

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, SpanKind

from maskmesh import telemetry, wire
from maskmesh.internal.v1 import embedding_pb2
from maskmesh.telemetry import StageRecord, add_seconds, metrics
from maskmesh.v1 import types_pb2

T = TypeVar("T")


class FrameTrace:
    """The spans of one frame in the gateway.

    Each frame is a trace of its own, linked to the call that created the session and to the call that
    propagates. A single trace of a whole video would be complete only at its end, and too large to read.
    """

    def __init__(
        self,
        frame_index: int,
        *,
        session_id: str,
        propagation_id: str,
        links: Sequence[SpanContext],
        start_ns: int,
    ) -> None:
        self._root = telemetry.tracer().start_span(
            telemetry.FRAME,
            context=Context(),
            links=telemetry.links(*links),
            start_time=start_ns,
            attributes={
                telemetry.FRAME_INDEX: frame_index,
                telemetry.SESSION_ID: session_id,
                telemetry.PROPAGATION_ID: propagation_id,
            },
        )
        self._context = trace.set_span_in_context(self._root, Context())
        self._stage_seconds: dict[str, float] = {}  # of the stages before the tracker
        self._track: Span | None = None
        self._track_ns = 0
        self._received_ns = 0

    @property
    def trace_id(self) -> str:
        """The trace id: 32 hexadecimal digits."""
        return telemetry.trace_id(self._root)

    def task(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Run work in this trace."""
        context = copy_context()
        context.run(otel_context.attach, self._context)
        return asyncio.get_running_loop().create_task(work, context=context)

    def opened_stream(self, start_ns: int, end_ns: int) -> None:
        """Record that the first frame waited until the stream to the tracker was open."""
        record = StageRecord(telemetry.TRANSFER, start_ns, end_ns, {telemetry.DIRECTION: "opening"})
        telemetry.emit([record], self._context)

    def waited(self, start_ns: int, end_ns: int, waits_for: str) -> None:
        """Record that the frame waited."""
        record = StageRecord(telemetry.QUEUE, start_ns, end_ns, {telemetry.WAITS_FOR: waits_for})
        telemetry.emit([record], self._context)

    def add_stage_seconds(self, seconds: Mapping[str, float]) -> None:
        """Add the times of stages before the tracker."""
        self._stage_seconds = add_seconds(self._stage_seconds, seconds)

    def sent_to_tracker(self, ready_ns: int) -> str:
        """Record that the frame, ready since ``ready_ns``, is sent to the tracker.  Returns its
        traceparent.
        """
        self._track_ns = time.time_ns()
        self.waited(ready_ns, self._track_ns, "order")
        self._track = telemetry.tracer().start_span(
            telemetry.TRACK, context=self._context, kind=SpanKind.CLIENT, start_time=self._track_ns
        )
        return telemetry.traceparent(self._track.get_span_context())

    def received(self, handling: embedding_pb2.Handling, received_ns: int) -> None:
        """Record that the frame's result was received."""
        self._received_ns = received_ns
        assert self._track is not None, "a result follows its frame"
        handler_ns = (handling.received_unix_nanos, handling.sent_unix_nanos)
        transfers = telemetry.transfer_stages((self._track_ns, received_ns), handler_ns)
        telemetry.emit(transfers, trace.set_span_in_context(self._track))
        self._track.end(received_ns)

    def complete(self, frame: types_pb2.FrameMasks) -> types_pb2.FrameMasks:
        """Add the trace id and the stages before the tracker to the tracker's result."""
        frame.trace_id = self.trace_id
        tracked = wire.stage_seconds_from_proto(frame.stage_times)
        del frame.stage_times[:]
        frame.stage_times.extend(wire.stage_times_to_proto(add_seconds(self._stage_seconds, tracked)))
        return frame

    def delivered(self, *, conditioning: bool, num_objects: int) -> None:
        """Record that the frame was delivered to the client, and end the trace."""
        delivered_ns = time.time_ns()
        self.waited(self._received_ns, delivered_ns, "client")
        kind = telemetry.CONDITIONING if conditioning else telemetry.TRACKED
        self._root.set_attribute(telemetry.FRAME_KIND, kind)
        self._root.set_attribute(telemetry.OBJECT_COUNT, num_objects)
        self._root.end(delivered_ns)
        metrics.count_frame("delivered")

    def abandoned(self) -> None:
        """End the trace of a frame that was not delivered before the stream ended."""
        if self._track is not None and self._track.is_recording():
            self._track.end()
        if self._root.is_recording():
            self._root.set_attribute(telemetry.ABANDONED, True)
            self._root.end()
