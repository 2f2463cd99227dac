"""Where the time went: names of spans and attributes, and records of stages.

Names are declared here and nowhere else.  Work is recorded by a :class:`StageRecorder`, which needs no
tracing and may be used on any thread, and becomes spans when it is emitted under its frame or call.  A
stage on an accelerator is synchronised at both ends, so its time is that of the device and not of the
launch.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from opentelemetry import trace
from opentelemetry.context import Context

from maskmesh.telemetry import metrics

logger = logging.getLogger(__name__)

AttributeValue: TypeAlias = str | int | float | bool


def tracer() -> trace.Tracer:
    """The tracer of every span of maskmesh."""
    return _tracer_of(trace.get_tracer_provider())


@functools.lru_cache(maxsize=1)
def _tracer_of(provider: trace.TracerProvider) -> trace.Tracer:
    """Remembered: a provider makes another one whenever it is asked, which takes longer than a span."""
    return provider.get_tracer("maskmesh")


@dataclass(slots=True)
class StageRecord:
    """One stretch of named work: wall clock in nanoseconds since the epoch."""

    name: str
    start_ns: int
    end_ns: int
    attributes: dict[str, AttributeValue] = field(default_factory=dict)
    children: "list[StageRecord]" = field(default_factory=list)


class StageRecorder:
    """Collects the stages of one piece of work.  Used by one thread at a time.

    ``seen`` is shared by the recorders of a process: the first run of each stage is marked cold, later
    ones are not; without it nothing is said.
    """

    def __init__(
        self,
        *,
        seen: set[str] | None = None,
        synchronize: Callable[[], None] | None = None,
        attributes: Mapping[str, AttributeValue] | None = None,
    ) -> None:
        self.records: list[StageRecord] = []
        self._seen = seen
        self._synchronize = synchronize
        self._attributes = dict(attributes or {})
        self._waits: list[StageRecord] | None = None  # of the stage that runs

    @contextmanager
    def stage(self, name: str, **attributes: AttributeValue) -> Iterator[None]:
        """Record the body as a stage; keywords are attribute names with ``__`` for the dots."""
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
            named = {f"maskmesh.{key.replace('__', '.')}": v for key, v in attributes.items()}
            cold: dict[str, AttributeValue] = {}
            if self._seen is not None:
                cold[COLD] = is_cold
                self._seen.add(name)
            attributes = self._attributes | cold | named
            self.records.append(StageRecord(name, start, time.time_ns(), attributes, waits))

    def wait(self, start_ns: int, end_ns: int, waits_for: str) -> None:
        """Record that the work stood still, within the stage that runs if there is one."""
        record = StageRecord(QUEUE, start_ns, end_ns, {WAITS_FOR: waits_for})
        (self.records if self._waits is None else self._waits).append(record)

    def add(
        self,
        name: str,
        start_ns: int,
        end_ns: int,
        attributes: dict[str, AttributeValue] | None = None,
    ) -> StageRecord:
        """Record a stretch that was measured elsewhere."""
        record = StageRecord(name, start_ns, max(start_ns, end_ns), dict(attributes or {}))
        self.records.append(record)
        return record


@contextmanager
def stages(recorders: Sequence[StageRecorder], name: str, **attributes: AttributeValue) -> Iterator[None]:
    """Record the body as a stage of several pieces of work that are done at once."""
    with ExitStack() as stack:
        for recorder in recorders:
            stack.enter_context(recorder.stage(name, **attributes))
        yield


def stage_seconds(records: Sequence[StageRecord]) -> dict[str, float]:
    """How long each stage of the work took in all, in the order in which they began; no waiting."""
    seconds: dict[str, float] = {}
    for record in records:
        if record.name in STAGES:
            waited_ns = sum(c.end_ns - c.start_ns for c in record.children if c.name == QUEUE)
            worked_ns = record.end_ns - record.start_ns - waited_ns
            seconds[record.name] = seconds.get(record.name, 0.0) + worked_ns / 1e9
    return seconds


def add_seconds(*parts: Mapping[str, float]) -> dict[str, float]:
    """How long stages took in all; one that runs in two services is one stage."""
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
        waited_ns = sum(c.end_ns - c.start_ns for c in record.children if c.name == QUEUE)
        metrics.record_stage(
            record.name,
            (record.end_ns - record.start_ns - (0 if record.name == QUEUE else waited_ns)) / 1e9,
            str(record.attributes.get(WAITS_FOR, "")),
            trace.set_span_in_context(span, parent),
        )
        if BATCH_SIZE in record.attributes:
            metrics.record_batch(record.name, int(record.attributes[BATCH_SIZE]))


def emit_soon(records: Sequence[StageRecord], parent: Context | None) -> None:
    """Emit once the current step of the event loop is over: what is about to be sent goes first."""
    asyncio.get_running_loop().call_soon(emit, records, parent)
