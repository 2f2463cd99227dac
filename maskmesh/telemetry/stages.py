"""Records of stages, and the spans and metrics that are made of them.

Work is recorded by a :class:`StageRecorder`, which needs no tracing context and may be used on any thread;
the records become spans when they are emitted under their frame or call.  A stage on an accelerator is
synchronised at both ends, so its time is that of the device and not of the launch.
"""

import asyncio
import contextlib
import functools
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link

from maskmesh.telemetry import metrics
from maskmesh.telemetry.clocks import offset_in
from maskmesh.telemetry.names import (
    BATCH_SIZE,
    COLD,
    DIRECTION,
    QUEUE,
    STAGES,
    TRANSFER,
    WAITS_FOR,
    Attributes,
)

# Jaeger's critical path passes over a span that does not end before the next one begins, in microseconds
# (jaeger-ui, findLastFinishingChildSpan).  So all records but stages are cut at both ends.
GAP_NS = 2_000

EMIT_SECONDS = 0.01


def tracer() -> trace.Tracer:
    """The tracer of every span of maskmesh."""
    try:
        return _tracer_of(trace.get_tracer_provider())
    except Exception:  # StopIteration for an unknown OTEL_PYTHON_TRACER_PROVIDER
        return trace.NoOpTracer()


@functools.lru_cache(maxsize=1)
def _tracer_of(provider: trace.TracerProvider) -> trace.Tracer:
    """The provider's tracer, cached: a provider makes a new one on each request, which takes longer than a
    span.
    """
    return provider.get_tracer("maskmesh")


@dataclass(slots=True)
class StageRecord:
    """A named interval of work: wall clock, in nanoseconds since the epoch."""

    name: str
    start_ns: int
    end_ns: int
    attributes: Attributes = field(default_factory=dict)
    children: "list[StageRecord]" = field(default_factory=list)

    @property
    def span_name(self) -> str:
        """The name, and for waits and transfers what is waited for or the direction."""
        match self.name:
            case "queue":
                return f"{QUEUE} {self.attributes[WAITS_FOR]}"
            case "transfer":
                return f"{TRANSFER} {self.attributes[DIRECTION]}"
        return self.name

    @property
    def queued_ns(self) -> int:
        """Nanoseconds that the stage waited within its interval."""
        return sum(child.end_ns - child.start_ns for child in self.children if child.name == QUEUE)


class StageRecorder:
    """Collects the stages of one piece of work.  Used by one thread at a time.

    The recorders of a process share one ``seen``: the first run of each stage is marked cold, later runs are
    marked warm.  Without ``seen`` stages are not marked.
    """

    def __init__(
        self,
        *,
        seen: set[str] | None = None,
        synchronize: Callable[[], None] | None = None,
        attributes: Attributes | None = None,
    ) -> None:
        """``synchronize`` waits for the device; ``attributes`` are added to every stage."""
        self.records: list[StageRecord] = []
        self._seen = seen
        self._synchronize = synchronize
        self._attributes: Attributes = attributes or {}
        self._waits: list[StageRecord] | None = None  # of the stage that runs

    @contextmanager
    def stage(self, name: str, attributes: Attributes | None = None) -> Iterator[None]:
        """Record the body as a stage."""
        if self._synchronize:
            self._synchronize()
        waits = self._waits = []
        is_cold = self._seen is not None and name not in self._seen
        start = time.time_ns()
        try:
            yield
        finally:
            self._waits = None
            if self._synchronize:
                self._synchronize()
            cold: Attributes = {}
            if self._seen is not None:
                cold = {COLD: is_cold}
                self._seen.add(name)
            merged = {**self._attributes, **cold, **(attributes or {})}
            self.records.append(StageRecord(name, start, time.time_ns(), merged, waits))

    @contextmanager
    def handling(self, name: str, start_ns: int | None = None) -> Iterator[None]:
        """Record the body as work of a handler, which uses no device.  ``start_ns`` is by default now."""
        start = start_ns or time.time_ns()
        try:
            yield
        finally:
            self.records.append(StageRecord(name, start, time.time_ns()))

    def wait(self, start_ns: int, end_ns: int, waits_for: str) -> None:
        """Record a wait: inside the stage that runs, or beside the stages when none runs."""
        record = StageRecord(QUEUE, start_ns, max(start_ns, end_ns), {WAITS_FOR: waits_for})
        (self.records if self._waits is None else self._waits).append(record)

    def add(self, name: str, start_ns: int, end_ns: int, attributes: Attributes | None = None) -> StageRecord:
        """Record an interval that was measured elsewhere."""
        record = StageRecord(name, start_ns, max(start_ns, end_ns), dict(attributes or {}))
        self.records.append(record)
        return record


@contextmanager
def stages(
    recorders: Sequence[StageRecorder], name: str, attributes: Attributes | None = None
) -> Iterator[None]:
    """Record the body as one stage of each recorder, for work that is done as one batch."""
    with ExitStack() as stack:
        for recorder in recorders:
            stack.enter_context(recorder.stage(name, attributes))
        yield


@contextmanager
def handling(recorders: Sequence[StageRecorder], name: str) -> Iterator[None]:
    """Record the body as work of a handler in each recorder."""
    with ExitStack() as stack:
        for recorder in recorders:
            stack.enter_context(recorder.handling(name))
        yield


def stage_seconds(records: Sequence[StageRecord]) -> dict[str, float]:
    """Total seconds of each stage without its waits, in the order in which the stages began."""
    seconds: dict[str, float] = {}
    for record in records:
        if record.name in STAGES:
            worked_ns = record.end_ns - record.start_ns - record.queued_ns
            seconds[record.name] = seconds.get(record.name, 0.0) + worked_ns / 1e9
    return seconds


def add_seconds(*parts: Mapping[str, float]) -> dict[str, float]:
    """The sum of several stage times; a stage that runs in two services counts as one stage."""
    total: dict[str, float] = {}
    for part in parts:
        for stage, seconds in part.items():
            total[stage] = total.get(stage, 0.0) + seconds
    return total


def emit(records: Sequence[StageRecord], parent: Context | None) -> None:
    """Turn records into spans under ``parent`` (None: the current span), and into metrics.

    A record other than a stage has no span if it is shorter than two gaps.
    """
    offset = offset_in(parent)
    for record in records:
        gap = 0 if record.name in STAGES else GAP_NS
        start_ns, end_ns = record.start_ns + gap, record.end_ns - gap
        context = parent
        if start_ns <= end_ns:
            span = tracer().start_span(
                record.span_name, context=parent, start_time=start_ns - offset, attributes=record.attributes
            )
            context = trace.set_span_in_context(span, parent)
            if record.children:
                emit([_within(child, start_ns, end_ns) for child in record.children], context)
            span.end(end_ns - offset)
        metrics.record_stage(
            record.name,
            (record.end_ns - record.start_ns - (0 if record.name == QUEUE else record.queued_ns)) / 1e9,
            str(record.attributes.get(WAITS_FOR, "")),
            context,
        )
        if BATCH_SIZE in record.attributes:
            metrics.record_batch(record.name, int(record.attributes[BATCH_SIZE]))


def _within(record: StageRecord, start_ns: int, end_ns: int) -> StageRecord:
    """The part of a record within an interval."""
    start = min(max(record.start_ns, start_ns), end_ns)
    return replace(record, start_ns=start, end_ns=max(start, min(record.end_ns, end_ns)))


@contextmanager
def stage_span(name: str, *, start_ns: int | None = None) -> Iterator[trace.Span]:
    """A stage whose body makes calls, which become its children.  ``start_ns`` is by default now."""
    start_ns = start_ns or time.time_ns()
    offset = offset_in()
    span = tracer().start_span(name, start_time=start_ns - offset)
    context = trace.set_span_in_context(span)
    token = otel_context.attach(context)
    try:
        yield span
    finally:
        otel_context.detach(token)
        end_ns = time.time_ns()
        span.end(end_ns - offset)
        metrics.record_stage(name, (end_ns - start_ns) / 1e9, "", context)


@contextmanager
def background(name: str) -> Iterator[None]:
    """A trace of its own for work that outlives the call that began it, and which links to that call."""
    caller = trace.get_current_span().get_span_context()
    span = tracer().start_span(name, context=Context(), links=[Link(caller)] if caller.is_valid else [])
    token = otel_context.attach(trace.set_span_in_context(span, Context()))
    try:
        yield
    finally:
        otel_context.detach(token)
        span.end()


_pending: "deque[tuple[Sequence[StageRecord], Context]]" = deque()
_scheduled_on: asyncio.AbstractEventLoop | None = None  # the loop that will emit them


def emit_soon(records: Sequence[StageRecord], parent: Context | None) -> None:
    """Emit after ``EMIT_SECONDS``, so that the spans delay neither a response nor the next frame."""
    global _scheduled_on
    _pending.append((records, otel_context.get_current() if parent is None else parent))
    loop = asyncio.get_running_loop()
    if _scheduled_on is not loop:  # an earlier loop may have ended before it came to it
        _scheduled_on = loop
        loop.call_later(EMIT_SECONDS, emit_pending)


def emit_pending() -> None:
    """Emit what :func:`emit_soon` has deferred."""
    global _scheduled_on
    _scheduled_on = None
    with contextlib.suppress(IndexError):  # all are emitted, here or by another thread
        while True:
            emit(*_pending.popleft())
