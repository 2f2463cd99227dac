"""Records of stages, and the spans and metrics that are made of them.

Work is recorded by a :class:`StageRecorder`, which needs no tracing context and may be used on any thread;
the records become spans when they are emitted under their frame or call.  A stage on an accelerator is
synchronised at both ends, so its time is that of the device and not of the launch.
"""

import asyncio
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from opentelemetry import trace
from opentelemetry.context import Context

from maskmesh.telemetry import metrics
from maskmesh.telemetry.names import BATCH_SIZE, COLD, QUEUE, STAGES, WAITS_FOR, Attributes


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

    def wait(self, start_ns: int, end_ns: int, waits_for: str) -> None:
        """Record a wait: inside the stage that runs, or beside the stages when none runs."""
        record = StageRecord(QUEUE, start_ns, end_ns, {WAITS_FOR: waits_for})
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
    """Turn records into spans under ``parent`` (None: the current span), and into metrics."""
    for record in records:
        span = tracer().start_span(
            record.name, context=parent, start_time=record.start_ns, attributes=record.attributes
        )
        if record.children:
            emit(record.children, trace.set_span_in_context(span, parent))
        span.end(record.end_ns)
        metrics.record_stage(
            record.name,
            (record.end_ns - record.start_ns - (0 if record.name == QUEUE else record.queued_ns)) / 1e9,
            str(record.attributes.get(WAITS_FOR, "")),
            trace.set_span_in_context(span, parent),
        )
        if BATCH_SIZE in record.attributes:
            metrics.record_batch(record.name, int(record.attributes[BATCH_SIZE]))


def emit_soon(records: Sequence[StageRecord], parent: Context | None) -> None:
    """Emit after the current step of the event loop, so that a message that is about to be sent goes
    first.
    """
    asyncio.get_running_loop().call_soon(emit, records, parent)
