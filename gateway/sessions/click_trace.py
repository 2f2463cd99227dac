"""The span of an interactive call in the gateway, with the totals of all services."""

import time
from types import TracebackType
from typing import Self

from opentelemetry import trace

from gateway.backends.encoders import Encoded
from maskmesh import telemetry
from maskmesh.telemetry import StageRecorder, WorkSummary, add_seconds


class ClickTrace:
    """What was done for one click or image: a context manager around the call.

    At its end the spans of the gateway's own work are emitted, and the server span gets the totals, see
    :class:`WorkSummary`.
    """

    def __init__(self, *, start_ns: int, tenant: str, num_objects: int) -> None:
        """``start_ns`` is when the call was received, in nanoseconds since the epoch."""
        self.work = WorkSummary()
        """What encoders and trackers did; the caller adds it."""
        self.stage_seconds: dict[str, float] = {}
        """Durations of the stages before the tracker."""
        self._handler = StageRecorder()
        self._mark_ns = start_ns
        self._span = trace.get_current_span()
        self._span.set_attributes({telemetry.TENANT: tenant, telemetry.OBJECT_COUNT: num_objects})

    def did(self, name: str) -> None:
        """Record that the gateway's own work ``name`` lasted from the mark until now."""
        self._handler.add(name, self._mark_ns, time.time_ns())

    def mark(self, start_ns: int) -> None:
        """Set the mark to the time at which own work of the gateway began."""
        self._mark_ns = start_ns

    def encoded(self, encoded: Encoded) -> None:
        """Add what was done for the embedding."""
        self.stage_seconds = add_seconds(self.stage_seconds, encoded.stage_seconds)
        self._span.set_attribute(telemetry.CACHE_OUTCOME, encoded.cache_outcome)
        if encoded.work is not None:
            self.work.add(encoded.work)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.work.add_records(self._handler.records)
        self._span.set_attributes(self.work.attributes())
        telemetry.emit_soon(self._handler.records, None)
