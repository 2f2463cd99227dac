"""The summary of a run: statistics over its windows, in bounded memory."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from maskmesh.records.budget import WindowRecord
from maskmesh.telemetry import (
    ARCHIVE,
    DECODE_IMAGE,
    FETCH_EMBEDDING,
    MOTION_GATE,
    POSTPROCESS,
    PREPROCESS,
    STAGES,
)

# Percentiles are those of so many last windows.
MAX_KEPT = 10_000

TOTAL, LATENCY, SLACK, MODEL = "total", "latency", "slack", "model"

# Stages around the model: what a measurement of the model alone does not contain.
_AROUND_MODEL = (DECODE_IMAGE, MOTION_GATE, PREPROCESS, FETCH_EMBEDDING, POSTPROCESS, ARCHIVE)
MODEL_STAGES = tuple(stage for stage in STAGES if stage not in _AROUND_MODEL)


@dataclass(frozen=True, slots=True)
class TimeStatistics:
    """Statistics of one time in seconds; percentiles are those of the last ``MAX_KEPT`` windows."""

    mean: float
    p50: float
    p95: float
    max: float

    def to_json(self) -> dict[str, float]:
        """The statistics, for JSON."""
        return {
            "mean": round(self.mean, 6),
            "p50": round(self.p50, 6),
            "p95": round(self.p95, 6),
            "max": round(self.max, 6),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """Statistics over the windows of a run.

    The first window may have waited for start-up, so it is apart and the statistics do not include it.
    """

    frames: int
    windows: int
    ok_windows: int | None
    """Windows that kept their budget; None without a budget."""
    gated_frames: int
    seconds: float
    """From the receipt of the first frame to the last result."""
    first: WindowRecord | None
    times: Mapping[str, TimeStatistics] = field(default_factory=dict)
    """Statistics of ``total``, ``latency``, ``slack``, ``model`` (the stages of the model alone) and of each
    stage."""

    @property
    def frames_per_second(self) -> float:
        """Results per second."""
        return self.frames / self.seconds if self.seconds else 0.0

    @property
    def windows_per_second(self) -> float:
        """Complete windows per second."""
        return self.windows / self.seconds if self.seconds else 0.0

    @property
    def ok_ratio(self) -> float | None:
        """The share of windows that kept their budget, 0 to 1; None without a budget or a window."""
        return None if self.ok_windows is None or not self.windows else self.ok_windows / self.windows

    def to_json(self) -> dict[str, Any]:
        """The summary, for JSON; times are in seconds."""
        content: dict[str, Any] = {
            "frames": self.frames,
            "windows": self.windows,
            "seconds": round(self.seconds, 6),
            "frames_per_second": round(self.frames_per_second, 3),
            "windows_per_second": round(self.windows_per_second, 3),
        }
        if self.ok_ratio is not None:
            content |= {"ok_windows": self.ok_windows, "ok_ratio": round(self.ok_ratio, 4)}
        if self.gated_frames:
            content["gated_frames"] = self.gated_frames
        if self.first is not None:
            content["first"] = self.first.to_json()
        content["steady"] = {name: times.to_json() for name, times in self.times.items()}
        return content


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSummary:
    """One call of SegmentStream as a whole."""

    received_frames: int
    skipped_frames: int
    """Frames that the overload policy skipped."""
    rejected_frames: int
    gate_threshold: float
    """The threshold of the motion gate, in grey levels; 0 without a gate."""
    run: RunSummary
    dropped_motion_windows: int = 0
    """Windows of the points' motion that were not delivered: the previous one was still being computed, the
    tokenizer failed, or the last result was sent."""

    def to_json(self) -> dict[str, Any]:
        """The summary, for JSON."""
        content: dict[str, Any] = {
            "received_frames": self.received_frames,
            "skipped_frames": self.skipped_frames,
            "rejected_frames": self.rejected_frames,
        }
        if self.gate_threshold:
            content["gate_threshold"] = self.gate_threshold
            content["encodes_saved"] = self.run.gated_frames
        if self.dropped_motion_windows:
            content["dropped_motion_windows"] = self.dropped_motion_windows
        return content | self.run.to_json()


class _Series:
    """One time, window by window; it was 0 in the first ``num_zeros`` windows."""

    def __init__(self, num_zeros: int) -> None:
        self._count = num_zeros
        self._sum = 0.0
        self._max = 0.0 if num_zeros else float("-inf")
        self._last: deque[float] = deque([0.0] * min(num_zeros, MAX_KEPT), maxlen=MAX_KEPT)

    def add(self, value: float) -> None:
        self._count += 1
        self._sum += value
        self._max = max(self._max, value)
        self._last.append(value)

    def statistics(self) -> TimeStatistics:
        p50, p95 = np.percentile(self._last, (50, 95))
        return TimeStatistics(self._sum / self._count, float(p50), float(p95), self._max)


class RunStatistics:
    """Collects the windows of a run."""

    def __init__(self) -> None:
        self._num_windows = self._num_ok = self._num_frames = self._num_gated = 0
        self._has_budget = False
        self._first: WindowRecord | None = None
        self._series: dict[str, _Series] = {}
        self._start: float | None = None
        self._end = 0.0

    def add_result(self, received: float, delivered: float, *, gated: bool = False) -> None:
        """Count a result; ``received`` and ``delivered`` are seconds on one clock."""
        self._start = received if self._start is None else self._start
        self._end = delivered
        self._num_frames += 1
        self._num_gated += gated

    def add_window(self, record: WindowRecord) -> None:
        """Add a window that is complete."""
        self._num_windows += 1
        self._has_budget |= record.budget is not None
        self._num_ok += record.status == "OK"
        if self._first is None:
            self._first = record
            return
        times = {TOTAL: record.total, LATENCY: record.latency}
        if record.slack is not None:
            times[SLACK] = record.slack
        times[MODEL] = sum(record.stage_seconds.get(stage, 0.0) for stage in MODEL_STAGES)
        times |= record.stage_seconds
        for name in times.keys() | self._series.keys():
            if name not in self._series:
                self._series[name] = _Series(self._num_windows - 2)  # without the first and this one
            self._series[name].add(times.get(name, 0.0))

    def summary(self) -> RunSummary:
        """The summary of what was added so far."""
        return RunSummary(
            frames=self._num_frames,
            windows=self._num_windows,
            ok_windows=self._num_ok if self._has_budget else None,
            gated_frames=self._num_gated,
            seconds=0.0 if self._start is None else self._end - self._start,
            first=self._first,
            times={name: self._series[name].statistics() for name in _ordered(list(self._series))},
        )


def _ordered(names: Sequence[str]) -> list[str]:
    """The names in the order of a report: the totals, then the stages in the order of the pipeline."""
    order = (TOTAL, LATENCY, SLACK, MODEL, *STAGES)
    return sorted(names, key=lambda name: order.index(name) if name in order else len(order))
