"""What one frame or call cost in all services, as attributes of its span.

A search in Jaeger compares the attributes of one span for equality, so the span of the frame has the totals
of all spans below it, and a flag for each power of ten that a total exceeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from maskmesh.telemetry.names import (
    BATCH_SIZE,
    COLD,
    QUEUE,
    TRANSFER,
    Attributes,
    base_name,
)
from maskmesh.telemetry.stages import StageRecord

OVER_MS = (10, 100, 1000)
"""Totals above these milliseconds are flagged."""

_GROUPS = {QUEUE: "wait", TRANSFER: "transfer"}


@dataclass(slots=True)
class WorkSummary:
    """Totals over the stages, waits and transfers of one frame or call."""

    seconds: dict[str, float] = field(default_factory=dict)
    """Total by span name.  Of a stage, waits within it do not count."""
    batch_sizes: dict[str, int] = field(default_factory=dict)
    """Largest batch in which the frame was computed, by stage."""
    is_cold: bool = False
    """Whether a stage ran for the first time in its process."""

    def add_records(self, records: Sequence[StageRecord]) -> Self:
        """Add the records of one service, and the waits within them."""
        for record in records:
            seconds = (record.end_ns - record.start_ns) / 1e9
            if record.name != QUEUE:
                seconds -= record.queued_ns / 1e9
                self.add_records([child for child in record.children if child.name == QUEUE])
            self.seconds[record.span_name] = self.seconds.get(record.span_name, 0.0) + seconds
            self.is_cold |= bool(record.attributes.get(COLD))
            if size := int(record.attributes.get(BATCH_SIZE, 0)):
                self.batch_sizes[record.name] = max(size, self.batch_sizes.get(record.name, 0))
        return self

    def add(self, other: "WorkSummary") -> Self:
        """Add the totals of another service, or of another frame."""
        for name, seconds in other.seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        for name, size in other.batch_sizes.items():
            self.batch_sizes[name] = max(size, self.batch_sizes.get(name, 0))
        self.is_cold |= other.is_cold
        return self

    def attributes(self, *, flags: bool = True) -> Attributes:
        """Attributes: ``maskmesh.stage.<stage>.ms``, ``maskmesh.wait.<what>.ms``,
        ``maskmesh.transfer.<direction>.ms``; with ``flags`` also ``….over_100ms`` for totals above
        ``OVER_MS``; ``maskmesh.stage.<stage>.batch_size``; ``maskmesh.cold``.
        """
        attributes: Attributes = {COLD: self.is_cold}
        for name, seconds in self.seconds.items():
            prefix = _prefix(name)
            attributes[f"{prefix}.ms"] = round(seconds * 1000, 3)
            for limit in OVER_MS if flags else ():
                if seconds * 1000 > limit:
                    attributes[f"{prefix}.over_{limit}ms"] = True
        for stage, size in self.batch_sizes.items():
            attributes[f"{_prefix(stage)}.batch_size"] = size
        return attributes


def _prefix(name: str) -> str:
    """The start of the names of the attributes of a span name."""
    group = _GROUPS.get(base_name(name))
    if group is not None:
        return f"maskmesh.{group}.{name.partition(' ')[2]}"
    return f"maskmesh.stage.{name}"
