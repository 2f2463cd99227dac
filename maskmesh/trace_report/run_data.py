"""What a run's charts show: times of frames, usage of services; from traces, from records, or from both."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskmesh import telemetry
from maskmesh.records.run_files import SUMMARY, USAGE, WINDOWS, read_lines, read_summary
from maskmesh.trace_report.report import Report, make_report
from maskmesh.trace_report.trace_files import trace_files

TRACES = "traces"

_STAGE_ATTRIBUTE = "maskmesh.stage."


@dataclass(frozen=True, slots=True)
class FrameTimes:
    """One result of a run."""

    number: int
    """Its number in the run; for traces the index of the frame."""
    time_s: float
    """When it was delivered, in seconds since the first one."""
    total_s: float
    """What it took: since the delivery before, or the total of its window."""
    shares: dict[str, float]
    """Seconds by the name of a stage, wait or transfer; the rest of the total is unnamed."""
    stage_s: dict[str, float] = field(default_factory=dict)
    """Seconds that each stage ran, concurrent ones too."""


@dataclass(frozen=True, slots=True)
class ServiceUsage:
    """What one service used over the time of a run."""

    service: str
    time_s: Sequence[float]
    resident_bytes: Sequence[int]
    device_bytes: Sequence[int]
    """Empty without an accelerator."""
    cores: Sequence[float]
    """Cores that were busy since the time before."""


@dataclass(frozen=True, slots=True)
class RunData:
    """A run, as far as its files tell."""

    report: Report | None
    """From its traces; None without any."""
    frames: Sequence[FrameTimes]
    usage: Sequence[ServiceUsage]
    summary: dict[str, Any]
    budget_s: float | None
    """The budget of the last window, if it had one."""


def read_run(path: Path) -> RunData:
    """Read a folder of records, a folder of trace files, or a trace file.

    Raises OSError if a file cannot be read, and ValueError if there is nothing to report.
    """
    windows = list(read_lines(path / WINDOWS)) if path.is_dir() else []
    traces = path / TRACES if (path / TRACES).is_dir() else path
    # A folder of records has JSON lines that are no traces.
    has_traces = traces != path or not (path / WINDOWS).exists()
    report = None
    if has_traces and (trace_files(traces) or not windows):
        report = make_report(traces)
    if report is None and not windows:
        raise ValueError(f"{path} has neither traces nor records of windows")
    frames = frames_of_report(report) if report is not None and report.frames else _frames_of_windows(windows)
    budgets = [window["budget_s"] for window in windows if "budget_s" in window]
    return RunData(
        report=report,
        frames=frames,
        usage=_usage(path / USAGE) if path.is_dir() else [],
        summary=read_summary(path / SUMMARY) if path.is_dir() else {},
        budget_s=float(budgets[-1]) if budgets else None,
    )


def frames_of_report(report: Report) -> list[FrameTimes]:
    """The delivered frames of traces, in order of delivery."""
    ordered = sorted(report.frames, key=lambda frame: frame.end_ns)
    origin = ordered[0].end_ns if ordered else 0
    return [
        FrameTimes(
            number=frame.frame_index,
            time_s=(frame.end_ns - origin) / 1e9,
            total_s=frame.duration_ns / 1e9,
            shares={name: nanos / 1e9 for name, nanos in frame.by_name.items()},
            stage_s={
                name.removeprefix(_STAGE_ATTRIBUTE).removesuffix(".ms"): float(value) / 1000
                for name, value in frame.trace.root.attributes.items()
                if name.removeprefix(_STAGE_ATTRIBUTE).removesuffix(".ms") in telemetry.STAGES
                and name.endswith(".ms")
            },
        )
        for frame in ordered
    ]


def _frames_of_windows(windows: Sequence[dict[str, Any]]) -> list[FrameTimes]:
    frames = []
    for number, window in enumerate(windows):
        try:
            total, time_s = float(window["t_total_s"]), float(window["time_s"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"window {number} has no times: {error!r}") from error
        stages = {
            stage: float(window[f"t_{stage}_s"]) for stage in telemetry.STAGES if f"t_{stage}_s" in window
        }
        # Stages overlap, so their shares are of their sum where that exceeds the total.
        scale = min(1.0, total / (sum(stages.values()) or 1.0))
        shares = {stage: seconds * scale for stage, seconds in stages.items()}
        frames.append(FrameTimes(int(window.get("win", number)), time_s, total, shares, stages))
    return frames


def _usage(path: Path) -> list[ServiceUsage]:
    samples: dict[str, list[tuple[float, dict[str, Any]]]] = {}
    for line in read_lines(path):
        for service, used in line["services"].items():
            samples.setdefault(service, []).append((float(line["time_s"]), used))
    usage = []
    for service, found in samples.items():
        times = [time for time, _ in found]
        cpu = [float(used["cpu_s"]) for _, used in found]
        busy = [0.0] + [
            (cpu[i] - cpu[i - 1]) / max(times[i] - times[i - 1], 1e-3) for i in range(1, len(found))
        ]
        usage.append(
            ServiceUsage(
                service=service,
                time_s=times,
                resident_bytes=[int(used["resident_bytes"]) for _, used in found],
                device_bytes=[int(u["device_bytes"]) for _, u in found if "device_bytes" in u],
                cores=[round(cores, 3) for cores in busy],
            )
        )
    return usage
