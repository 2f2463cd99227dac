"""The gateway's part of a frame's trace: from its window slot to its delivery."""

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextvars import copy_context
from typing import Any, Protocol, TypeVar

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, SpanKind

from gateway.backends.encoders import Encoded
from gateway.sessions.session import GatewaySession
from gateway.streams.track_call import TRACK_METHOD
from maskmesh import telemetry, wire
from maskmesh.internal.v1 import embedding_pb2
from maskmesh.rpc.client_calls import server_attributes
from maskmesh.telemetry import StageRecord, StageRecorder, WorkSummary, add_seconds, metrics
from maskmesh.v1 import points_pb2, types_pb2

T = TypeVar("T")
F = TypeVar("F", types_pb2.FrameMasks, points_pb2.FramePoints)


class TrackerResult(Protocol):
    """What a trace needs of a result of a tracker."""

    @property
    def handling(self) -> embedding_pb2.Handling:
        """When the tracker handled the frame."""

    @property
    def work(self) -> embedding_pb2.WorkSummary:
        """What it did."""

    @property
    def received_ns(self) -> int:
        """When the gateway received the result."""


class FrameTrace:
    """The spans of one frame in the gateway.

    Each frame is a trace of its own: a single trace of a whole video would be complete only at its end, and
    too large to read.  The root span has the totals of all services, see :class:`WorkSummary`.  The span
    ``track`` links to the call that created the session, to the call that propagates, and to the call that
    computed the embedding; not the root, because Jaeger up to 2.13 draws no critical path for a root with
    links.
    """

    def __init__(
        self,
        frame_index: int,
        session: GatewaySession,
        *,
        propagation_id: str,
        links: Sequence[SpanContext],
        start_ns: int,
        is_first: bool,
    ) -> None:
        """``is_first`` is whether the frame is one of the first of its propagation."""
        self._root = telemetry.tracer().start_span(
            telemetry.FRAME,
            context=Context(),
            start_time=start_ns,
            attributes={
                telemetry.FRAME_INDEX: frame_index,
                telemetry.SESSION_ID: session.session_id,
                telemetry.PROPAGATION_ID: propagation_id,
                telemetry.TENANT: session.caller.tenant,
                telemetry.FIRST_FRAME: is_first,
            },
        )
        self._links = list(links)
        self.work = WorkSummary()
        """What all services did for the frame, complete once it is delivered."""
        self.start_ns = start_ns
        self._context = trace.set_span_in_context(self._root, Context())
        self._stage_seconds: dict[str, float] = {}  # of the stages before the tracker
        self._track: Span | None = None
        self._track_ns = 0
        self._received_ns = 0

    @property
    def trace_id(self) -> str:
        """The trace id: 32 hexadecimal digits."""
        return telemetry.trace_id(self._root)

    def ran(self, records: Sequence[StageRecord]) -> None:
        """Record stages of the gateway's own."""
        self._stage_seconds = add_seconds(self._stage_seconds, telemetry.stage_seconds(records))
        self._emit(*records)

    def ran_after_tracker(self, records: Sequence[StageRecord]) -> None:
        """Record stages of the gateway's own that follow the tracker's result."""
        self.ran(records)
        self._received_ns = records[-1].end_ns

    @property
    def traceparent(self) -> str:
        """The W3C trace context for work that other services do beside the tracking of objects."""
        return telemetry.traceparent(self._root.get_span_context())

    def followed_points(self, result: "TrackerResult", stage_seconds: Mapping[str, float]) -> None:
        """Record the result of the frame's points, for which the frame waited after that of its objects."""
        self.work.add(wire.work_from_proto(result.work))
        self._stage_seconds = add_seconds(self._stage_seconds, stage_seconds)
        if result.received_ns > self._received_ns:
            self.waited(self._received_ns, result.received_ns, "points")
            self._received_ns = result.received_ns

    def gated(self, ready_ns: int) -> None:
        """Record that the frame has the masks of an earlier one, for whose result it waited since
        ``ready_ns``.
        """
        self._received_ns = time.time_ns()
        self.waited(ready_ns, self._received_ns, "previous_frame")
        self._root.set_attribute(telemetry.GATED, True)

    def task(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Run work in this trace."""
        context = copy_context()
        context.run(otel_context.attach, self._context)
        return asyncio.get_running_loop().create_task(work, context=context)

    def opened_stream(self, start_ns: int, end_ns: int) -> None:
        """Record that the first frame waited until the stream to the tracker was open."""
        self._emit(
            StageRecord(telemetry.PREPARE, self.start_ns, start_ns),
            StageRecord(telemetry.TRANSFER, start_ns, end_ns, {telemetry.DIRECTION: "opening"}),
        )

    def waited(self, start_ns: int, end_ns: int, waits_for: str) -> None:
        """Record that the frame waited."""
        recorder = StageRecorder()
        recorder.wait(start_ns, end_ns, waits_for)
        self._emit(*recorder.records)

    def encoded(self, encoded: Encoded) -> None:
        """Record that the frame's embedding is available, and what was done for it."""
        self._stage_seconds = add_seconds(self._stage_seconds, encoded.stage_seconds)
        self._root.set_attribute(telemetry.CACHE_OUTCOME, encoded.cache_outcome)
        filled_by = telemetry.span_context(encoded.ref.filled_by)
        if filled_by.trace_id != self._root.get_span_context().trace_id:
            self._links.append(filled_by)
        if encoded.work is not None:
            self.work.add(encoded.work)

    def sent_to_tracker(self, ready_ns: int, address: str, method: str = TRACK_METHOD) -> str:
        """Record that the frame, ready since ``ready_ns``, is sent to the tracker at an address.  Returns
        its traceparent.
        """
        self._track_ns = time.time_ns()
        self._track = telemetry.tracer().start_span(
            telemetry.TRACK,
            context=self._context,
            kind=SpanKind.CLIENT,
            links=telemetry.links(*self._links),
            start_time=self._track_ns,
            attributes={
                telemetry.RPC_SYSTEM: "grpc",
                telemetry.RPC_METHOD: method,
                **server_attributes(address),
            },
        )
        self.waited(ready_ns, self._track_ns, "order")
        return telemetry.traceparent(self._track.get_span_context())

    def received(self, result: "TrackerResult", *, was_held: bool) -> None:
        """Record that the frame's result was received, and whether it waited for later results since."""
        assert self._track is not None, "a result follows its frame"
        self._received_ns = result.received_ns
        handling = result.handling
        transfers = telemetry.transfer_stages(
            handling.host,
            (self._track_ns, result.received_ns),
            (handling.received_unix_nanos, handling.sent_unix_nanos),
            handling.clock_offset_nanos,
        )
        self.work.add_records(transfers).add(wire.work_from_proto(result.work))
        telemetry.emit_soon(transfers, trace.set_span_in_context(self._track))
        self._track.end(result.received_ns)
        if was_held:
            self._received_ns = time.time_ns()
            self.waited(result.received_ns, self._received_ns, telemetry.HOTSTART)

    def complete(self, frame: F) -> F:
        """Add the trace id and the stages before the tracker to the tracker's result."""
        frame.trace_id = self.trace_id
        tracked = wire.stage_seconds_from_proto(frame.stage_times)
        del frame.stage_times[:]
        frame.stage_times.extend(wire.stage_times_to_proto(add_seconds(self._stage_seconds, tracked)))
        return frame

    def delivered(self, *, conditioning: bool, num_objects: int) -> int:
        """Record that the frame was delivered to the client, and end the trace; returns its nanoseconds."""
        delivered_ns = time.time_ns()
        self.waited(self._received_ns, delivered_ns, "client")
        self._root.set_attributes(
            {
                telemetry.FRAME_KIND: telemetry.CONDITIONING if conditioning else telemetry.TRACKED,
                telemetry.OBJECT_COUNT: num_objects,
                **self.work.attributes(),
            }
        )
        self._root.end(delivered_ns)
        metrics.count_frame("delivered")
        return delivered_ns - self.start_ns

    def abandoned(self) -> None:
        """End the trace of a frame that was not delivered before the stream ended."""
        if self._track is not None and self._track.is_recording():
            self._track.end()
        if self._root.is_recording():
            self._root.set_attributes({telemetry.ABANDONED: True, **self.work.attributes()})
            self._root.end()

    def _emit(self, *records: StageRecord) -> None:
        self.work.add_records(records)
        telemetry.emit_soon(records, self._context)
