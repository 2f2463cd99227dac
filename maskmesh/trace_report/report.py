"""Latency report from trace files: durations of stages, and the attribution of delivered frames."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from maskmesh import telemetry
from maskmesh.trace_report.attribution import Attribution, attribute_calls, attribute_frames, unnamed_share
from maskmesh.trace_report.critical_path import named_share
from maskmesh.trace_report.trace_files import Span, Trace, group_traces, read_spans

FIRST_CALL = "first call"
IMAGE = "image"
OTHER = "other"
CALLS = ("AddPrompt", "SegmentImage", "SegmentConcepts")

_ORDER = (FIRST_CALL, telemetry.CONDITIONING, telemetry.TRACKED, IMAGE, OTHER)


@dataclass(frozen=True, slots=True)
class StageRow:
    """Durations of one stage in one situation, in milliseconds."""

    stage: str
    situation: str
    """"first call" (cold), "conditioning" or "tracked" frame, "image", or "other"."""
    calls: int
    mean_ms: float
    p50_ms: float
    p95_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of a report, and the traces that they were computed from."""

    traces: Sequence[Trace]
    stages: Sequence[StageRow]
    frames: Sequence[Attribution]
    calls: Sequence[Attribution]

    @property
    def steady(self) -> Sequence[Attribution]:
        """Delivered frames except the first of each propagation, which fills the pipeline."""
        firsts: dict[object, Attribution] = {}
        for frame in self.frames:
            firsts.setdefault(frame.trace.root.attributes.get(telemetry.PROPAGATION_ID), frame)
        return [f for f in self.frames if f not in firsts.values()]

    def shares(self) -> dict[str, float]:
        """Share of the time between deliveries that is attributed to each name, the largest first."""
        total = sum(f.duration_ns for f in self.frames)
        sums: dict[str, int] = defaultdict(int)
        for frame in self.frames:
            for name, nanos in frame.by_name.items():
                sums[name] += nanos
        ordered = sorted(sums.items(), key=lambda item: -item[1])
        return {name: nanos / max(total, 1) for name, nanos in ordered}

    def summary(self) -> dict[str, float]:
        """Number, latency and rate of frames, and the unnamed shares of frames and calls."""
        calls = {}
        if self.calls:
            calls["calls_unnamed_share"] = unnamed_share(self.calls)
            calls["calls_critical_path_named"] = named_share(call.trace for call in self.calls)
        if not self.frames:
            return calls
        steady = [f.duration_ns / 1e6 for f in self.steady]
        summary = calls | {
            "frames": len(self.frames),
            "first_frame_ms": self.frames[0].duration_ns / 1e6,
            "unnamed_share": unnamed_share(self.frames),
            "worst_unnamed_share": max(f.unnamed_share for f in self.frames),
            "critical_path_named": named_share(frame.trace for frame in self.frames),
        }
        if steady:
            median = statistics.median(steady)
            summary |= {"median_frame_ms": median, "frames_per_second": 1000 / median}
        return summary

    def to_json(self) -> dict[str, Any]:
        """The summary, the shares and the stages, for JSON."""
        return {
            "summary": self.summary(),
            "shares": self.shares(),
            "stages": [asdict(row) for row in self.stages],
        }


def make_report(path: Path) -> Report:
    """Make a report from trace files.

    Raises OSError if a file cannot be read, and ValueError if it is malformed or there are no spans.
    """
    traces = group_traces(read_spans(path))
    if not traces:
        raise ValueError(f"there are no spans in {path}")
    return Report(
        traces=traces,
        stages=stage_rows(traces),
        frames=attribute_frames(traces),
        calls=attribute_calls(traces, CALLS),
    )


def situation(trace: Trace, span: Span) -> str:
    """The situation in which a stage ran; see :class:`StageRow`."""
    if span.attributes.get(telemetry.COLD):
        return FIRST_CALL
    kind = span.attributes.get(telemetry.FRAME_KIND) or trace.root.attributes.get(telemetry.FRAME_KIND)
    if kind:
        return str(kind)
    method = trace.root.name.rsplit("/", 1)[-1]
    situations = {"AddPrompt": telemetry.CONDITIONING, "SegmentImage": IMAGE, "SegmentConcepts": IMAGE}
    return situations.get(method, OTHER)


def stage_rows(traces: Sequence[Trace]) -> list[StageRow]:
    """The rows of the table of stages, in the order of the pipeline."""
    durations: dict[tuple[str, str], list[float]] = defaultdict(list)
    for trace in traces:
        if trace.root.name == telemetry.WARM_UP:
            # Of a warm-up only first runs count.
            spans = [s for s in trace.spans.values() if s.attributes.get(telemetry.COLD)]
        else:
            spans = list(trace.spans.values())
        waited = _waits_within(trace)
        for span in spans:
            if telemetry.is_named(span.name):
                worked_ns = span.duration_ns - waited.get(span.span_id, 0)
                durations[span.name, situation(trace, span)].append(worked_ns / 1e6)
    others = sorted({stage for stage, _ in durations} - {*telemetry.STAGES, *telemetry.HANDLING})
    return [
        _row(stage, when, durations[stage, when])
        for stage in (*telemetry.STAGES, *telemetry.HANDLING, *others)
        for when in _ORDER
        if durations.get((stage, when))
    ]


def _waits_within(trace: Trace) -> dict[str, int]:
    """For each stage, by span id: the nanoseconds that it waited in queues for other work."""
    waits: dict[str, int] = defaultdict(int)
    for span in trace.spans.values():
        if telemetry.base_name(span.name) == telemetry.QUEUE and span.parent_id:
            waits[span.parent_id] += span.duration_ns
    return {i: n for i, n in waits.items() if i in trace.spans and trace.spans[i].name in telemetry.STAGES}


def _row(stage: str, when: str, values: list[float]) -> StageRow:
    ordered = sorted(values)
    return StageRow(
        stage=stage,
        situation=when,
        calls=len(ordered),
        mean_ms=statistics.fmean(ordered),
        p50_ms=statistics.median(ordered),
        p95_ms=ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))],
        max_ms=ordered[-1],
    )


def choose_frame(report: Report, frame_index: int | None) -> Attribution:
    """The frame to draw: the requested one, or one of median latency if ``frame_index`` is None.

    Raises ValueError if there is none.
    """
    if frame_index is not None:
        for frame in report.frames:
            if frame.frame_index == frame_index:
                return frame
        raise ValueError(f"frame {frame_index} is not in the traces")
    candidates = [*report.steady, *report.frames, *report.calls]
    if not candidates:
        raise ValueError("there is no delivered frame and no call in the traces")
    pool = list(report.steady) or candidates
    return sorted(pool, key=lambda f: f.duration_ns)[len(pool) // 2]
