"""The trace of one frame of a propagation: from its place in the window to its delivery."""

import asyncio
import time
from collections.abc import Coroutine
from contextvars import copy_context
from typing import Any, TypeVar

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, SpanKind

from maskmesh import telemetry, wire
from maskmesh.internal.v1 import embedding_pb2
from maskmesh.rpc.interceptors import transfers
from maskmesh.telemetry import StageRecord, add_seconds, metrics
from maskmesh.v1 import types_pb2

T = TypeVar("T")


class FrameTrace:
    """One frame's spans in the gateway.

    Each frame is a trace of its own, linked to the call that created the session and to the call that
    propagates: a trace that spans a whole video could not be read, and arrives only when it is over.
    """

    def __init__(
        self,
        frame_index: int,
        *,
        session_id: str,
        propagation_id: str,
        links: list[SpanContext],
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
        self.stage_seconds: dict[str, float] = {}
        """What the stages before the tracker took."""
        self._track: Span | None = None
        self._track_ns = 0
        self._received_ns = 0

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits."""
        return telemetry.trace_id(self._root)

    def task(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Run work within this trace."""
        context = copy_context()
        context.run(otel_context.attach, self._context)
        return asyncio.get_running_loop().create_task(work, context=context)

    def opened_stream(self, start_ns: int, end_ns: int) -> None:
        """The first frame waited for the stream to the tracker to open."""
        attributes: dict[str, telemetry.AttributeValue] = {telemetry.DIRECTION: "opening"}
        record = StageRecord(telemetry.TRANSFER, start_ns, end_ns, attributes)
        telemetry.emit([record], self._context)

    def waited(self, start_ns: int, end_ns: int, waits_for: str) -> None:
        """The frame waited before anything was done for it."""
        self._queue(start_ns, end_ns, waits_for)

    def sent_to_tracker(self, ready_ns: int) -> str:
        """The frame goes to the tracker, ``ready_ns`` after it could have; returns its traceparent."""
        self._track_ns = time.time_ns()
        self._queue(ready_ns, self._track_ns, "order")
        self._track = telemetry.tracer().start_span(
            telemetry.TRACK, context=self._context, kind=SpanKind.CLIENT, start_time=self._track_ns
        )
        return telemetry.inject(trace.set_span_in_context(self._track)).get("traceparent", "")

    def received(self, handling: embedding_pb2.Handling, received_ns: int) -> None:
        """The frame's result came back."""
        self._received_ns = received_ns
        assert self._track is not None, "a result follows its frame"
        handled = (handling.received_unix_nanos, handling.sent_unix_nanos)
        telemetry.emit(
            transfers((self._track_ns, received_ns), handled),
            trace.set_span_in_context(self._track),
        )
        self._track.end(received_ns)

    def signed(self, frame: types_pb2.FrameMasks) -> types_pb2.FrameMasks:
        """The tracker's result with what this side adds: the trace, and the stages before the tracker."""
        frame.trace_id = self.trace_id
        tracked = wire.stage_seconds_from_proto(frame.stage_times)
        del frame.stage_times[:]
        frame.stage_times.extend(wire.stage_times_to_proto(add_seconds(self.stage_seconds, tracked)))
        return frame

    def delivered(self, *, conditioning: bool, objects: int) -> None:
        """The client has the frame."""
        delivered_ns = time.time_ns()
        self._queue(self._received_ns, delivered_ns, "client")
        kind = telemetry.CONDITIONING if conditioning else telemetry.TRACKED
        self._root.set_attribute(telemetry.FRAME_KIND, kind)
        self._root.set_attribute(telemetry.OBJECT_COUNT, objects)
        self._root.end(delivered_ns)
        metrics.count_frame("delivered")

    def abandoned(self) -> None:
        """The propagation ended before the frame was delivered."""
        if self._track is not None and self._track.is_recording():
            self._track.end()
        if self._root.is_recording():
            self._root.set_attribute(telemetry.ABANDONED, True)
            self._root.end()

    def _queue(self, start_ns: int, end_ns: int, waits_for: str) -> None:
        record = StageRecord(telemetry.QUEUE, start_ns, end_ns, {telemetry.WAITS_FOR: waits_for})
        telemetry.emit([record], self._context)
