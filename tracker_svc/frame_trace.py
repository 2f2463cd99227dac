"""The tracker's part of a frame's trace: from the frame's receipt to its result, and its memory
afterwards.
"""

import asyncio
import time
from collections.abc import Coroutine
from contextvars import copy_context
from typing import Any, TypeVar

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind

from maskmesh import telemetry
from maskmesh.telemetry import StageRecord, StageRecorder, WorkSummary
from tracker_svc.following.following_step import Following

# The stream that carries the frames.
TRACK_METHOD = "maskmesh.internal.v1.TrackerService/Track"

T = TypeVar("T")


class FrameTrace:
    """The spans of one frame in the tracker."""

    def __init__(
        self,
        frame_index: int,
        *,
        session_id: str,
        traceparent: str,
        clock_offset_ns: int = 0,
        method: str = TRACK_METHOD,
    ) -> None:
        """``clock_offset_ns`` is this host's clock minus that of the host where the trace began."""
        self.received_ns = time.time_ns()
        self.ready_ns = 0
        """When the frame's embedding was available, in nanoseconds since the epoch."""
        self.work = WorkSummary()
        """What was done for the frame, complete once :meth:`finish` was called."""
        self.clock_offset_ns = clock_offset_ns
        parent = telemetry.with_offset(telemetry.context_of(traceparent), clock_offset_ns)
        self._span = telemetry.tracer().start_span(
            telemetry.TRACK,
            context=parent,
            kind=SpanKind.SERVER,
            start_time=self.received_ns - clock_offset_ns,
            attributes={
                telemetry.RPC_SYSTEM: "grpc",
                telemetry.RPC_METHOD: method,
                telemetry.FRAME_INDEX: frame_index,
                telemetry.SESSION_ID: session_id,
            },
        )
        self._context = trace.set_span_in_context(self._span, parent)
        self._memory_records: list[StageRecord] = []

    def task(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Run work in this trace rather than in that of the stream."""
        context = copy_context()
        context.run(otel_context.attach, self._context)
        return asyncio.get_running_loop().create_task(work, context=context)

    def note_ready(self) -> None:
        """Record that the frame's embedding is available."""
        self.ready_ns = time.time_ns()

    def finish(
        self,
        recorder: StageRecorder,
        previous: "FrameTrace | None",
        *,
        conditioning: bool,
        num_objects: int,
        sent_ns: int,
    ) -> None:
        """Emit the frame's stages and end its span at ``sent_ns``.

        Memory stages of the ``previous`` frame that delayed this frame become children of its ``queue``
        stage.
        """
        kind = telemetry.CONDITIONING if conditioning else telemetry.TRACKED
        for record in recorder.records:
            record.attributes.setdefault(telemetry.FRAME_KIND, kind)
        queue = recorder.records[0]
        if previous is not None:
            queue.children = previous._take_memory_records(since_ns=queue.start_ns)
        self.work.add_records(recorder.records)
        self.work.seconds[telemetry.FETCH_EMBEDDING] = (self.ready_ns - self.received_ns) / 1e9
        self._span.set_attributes({telemetry.FRAME_KIND: kind, telemetry.OBJECT_COUNT: num_objects})
        telemetry.emit_soon(recorder.records, self._context)
        self._span.end(sent_ns - self.clock_offset_ns)

    def add_decisions(self, following: Following) -> None:
        """Add what was decided about the objects of concepts, as events of the frame's span."""
        now_ns = time.time_ns() - self.clock_offset_ns
        for concept_id, decision in following.decisions.items():
            for name, obj_id, details in decision.events():
                attributes = {telemetry.CONCEPT_ID: concept_id, telemetry.OBJECT_ID: obj_id, **details}
                self._span.add_event(name, attributes, timestamp=now_ns)

    def set_memory(self, recorder: StageRecorder) -> None:
        """Record the stages of the frame's memory, which is encoded after the result is sent."""
        self._memory_records = recorder.records

    def end(self) -> None:
        """Emit the remaining stages, and end the span if the frame has no result."""
        self._emit_afterwards(self._memory_records)
        self._memory_records = []
        if self._span.is_recording():
            self._span.end()

    def _take_memory_records(self, since_ns: int) -> list[StageRecord]:
        """The memory stages that ended after ``since_ns``, cut at it."""
        delaying = [r for r in self._memory_records if r.end_ns > since_ns]
        self._emit_afterwards([r for r in self._memory_records if r.end_ns <= since_ns])
        self._memory_records = []
        for record in delaying:
            record.start_ns = max(record.start_ns, since_ns)
        return delaying

    def _emit_afterwards(self, records: list[StageRecord]) -> None:
        """Emit the memory stages that delayed no frame, in a trace of their own that links to the frame's:
        the frame's trace has ended before.
        """
        if not records:
            return
        root = telemetry.tracer().start_span(
            telemetry.MEMORIZE,
            context=Context(),
            links=telemetry.links(self._span.get_span_context()),
            start_time=records[0].start_ns - self.clock_offset_ns,
        )
        telemetry.emit(
            records, telemetry.with_offset(trace.set_span_in_context(root, Context()), self.clock_offset_ns)
        )
        root.end(records[-1].end_ns - self.clock_offset_ns)
