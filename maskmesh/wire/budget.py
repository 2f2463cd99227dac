"""Conversion of budgets, windows and summaries of runs to messages and back."""

import math

from maskmesh.errors import InvalidRequest
from maskmesh.records.budget import Budget, BudgetStatus, WindowRecord
from maskmesh.records.summary import RunSummary, StreamSummary, TimeStatistics
from maskmesh.v1 import budget_pb2
from maskmesh.wire.masks import stage_seconds_from_proto, stage_times_to_proto
from maskmesh.wire.values import duration_from_seconds, seconds_from_duration

MAX_THRESHOLD = 255.0

_STATUSES: dict[BudgetStatus | None, budget_pb2.BudgetStatus] = {
    None: budget_pb2.BUDGET_STATUS_UNSPECIFIED,
    "OK": budget_pb2.BUDGET_STATUS_OK,
    "LAG": budget_pb2.BUDGET_STATUS_LAG,
}


def budget_to_proto(budget: Budget) -> budget_pb2.Budget:
    """Convert a budget to a message."""
    return budget_pb2.Budget(
        frames_per_second=budget.frames_per_second,
        per_window=None if budget.per_window is None else duration_from_seconds(budget.per_window),
        window_length=budget.window_length,
        window_stride=budget.window_stride,
    )


def budget_from_proto(message: budget_pb2.Budget, *, field: str) -> Budget:
    """Convert a message to a budget.  Raises InvalidRequest for values out of range."""
    try:
        return Budget(
            frames_per_second=message.frames_per_second,
            per_window=seconds_from_duration(message.per_window) if message.HasField("per_window") else None,
            window_length=message.window_length or 1,
            window_stride=message.window_stride,
        )
    except ValueError as error:
        name, _, reason = str(error).partition(" ")
        raise InvalidRequest(f"it {reason}", field=f"{field}.{name}") from error


def threshold_from_proto(message: budget_pb2.MotionGate, default: float, *, field: str) -> float:
    """The threshold of a motion gate in grey levels.  Raises InvalidRequest."""
    if not math.isfinite(message.threshold) or not 0 <= message.threshold <= MAX_THRESHOLD:
        raise InvalidRequest(f"it must be 0 to {MAX_THRESHOLD:.0f}", field=f"{field}.threshold")
    return message.threshold or default


def window_to_proto(record: WindowRecord) -> budget_pb2.WindowRecord:
    """Convert the record of a window to a message."""
    return budget_pb2.WindowRecord(
        window=record.window,
        first_sequence=record.first_sequence,
        last_sequence=record.last_sequence,
        new_frames=record.new_frames,
        total=duration_from_seconds(record.total),
        budget=None if record.budget is None else duration_from_seconds(record.budget),
        slack=None if record.slack is None else duration_from_seconds(record.slack),
        status=_STATUSES[record.status],
        latency=duration_from_seconds(record.latency),
        stage_times=stage_times_to_proto(record.stage_seconds),
        gated_frames=record.gated_frames,
        time=duration_from_seconds(record.time),
    )


def window_from_proto(message: budget_pb2.WindowRecord) -> WindowRecord:
    """Convert a message to the record of a window."""
    return WindowRecord(
        window=message.window,
        first_sequence=message.first_sequence,
        last_sequence=message.last_sequence,
        new_frames=message.new_frames,
        total=seconds_from_duration(message.total),
        budget=seconds_from_duration(message.budget) if message.HasField("budget") else None,
        latency=seconds_from_duration(message.latency),
        stage_seconds=stage_seconds_from_proto(message.stage_times),
        gated_frames=message.gated_frames,
        time=seconds_from_duration(message.time),
    )


def stream_summary_to_proto(summary: StreamSummary) -> budget_pb2.StreamSummary:
    """Convert the summary of a stream to a message."""
    run = summary.run
    return budget_pb2.StreamSummary(
        received_frames=summary.received_frames,
        delivered_frames=run.frames,
        skipped_frames=summary.skipped_frames,
        rejected_frames=summary.rejected_frames,
        gated_frames=run.gated_frames,
        gate_threshold=summary.gate_threshold,
        dropped_motion_windows=summary.dropped_motion_windows,
        windows=run.windows,
        ok_windows=run.ok_windows or 0,
        frames_per_second=run.frames_per_second,
        windows_per_second=run.windows_per_second,
        first=None if run.first is None else window_to_proto(run.first),
        times=[
            budget_pb2.TimeStatistics(
                name=name,
                mean=duration_from_seconds(times.mean),
                p50=duration_from_seconds(times.p50),
                p95=duration_from_seconds(times.p95),
                max=duration_from_seconds(times.max),
            )
            for name, times in run.times.items()
        ],
    )


def stream_summary_from_proto(message: budget_pb2.StreamSummary) -> StreamSummary:
    """Convert a message to the summary of a stream."""
    first = window_from_proto(message.first) if message.HasField("first") else None
    has_budget = first is not None and first.budget is not None
    rate = message.frames_per_second
    return StreamSummary(
        received_frames=message.received_frames,
        skipped_frames=message.skipped_frames,
        rejected_frames=message.rejected_frames,
        gate_threshold=message.gate_threshold,
        dropped_motion_windows=message.dropped_motion_windows,
        run=RunSummary(
            frames=message.delivered_frames,
            windows=message.windows,
            ok_windows=message.ok_windows if has_budget else None,
            gated_frames=message.gated_frames,
            seconds=message.delivered_frames / rate if rate else 0.0,
            first=first,
            times={times.name: _statistics(times) for times in message.times},
        ),
    )


def _statistics(message: budget_pb2.TimeStatistics) -> TimeStatistics:
    times = (message.mean, message.p50, message.p95, message.max)
    return TimeStatistics(*map(seconds_from_duration, times))
