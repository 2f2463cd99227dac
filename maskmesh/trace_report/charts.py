"""The charts of a run as one picture: shares of stages, latencies, memory, processor time."""

from pathlib import Path
from statistics import fmean

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from maskmesh import telemetry
from maskmesh.trace_report.attribution import UNNAMED
from maskmesh.trace_report.colours import colour_of
from maskmesh.trace_report.run_data import RunData

# Shares are means over this many parts of the run.
NUM_PARTS = 60


def draw_charts(run: RunData, path: Path) -> None:
    """Write the picture, in the format of the file's suffix.  Raises OSError."""
    figure = Figure(figsize=(12, 8), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    shares, latencies, memory, cores = figure.subplots(2, 2).flatten()
    _draw_shares(run, shares)
    _draw_latencies(run, latencies)
    _draw_memory(run, memory)
    _draw_cores(run, cores)
    for axes in (shares, latencies, memory, cores):
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.savefig(path)


def _draw_shares(run: RunData, axes: Axes) -> None:
    axes.set_title("where the time between results goes", fontsize=10, loc="left")
    axes.set_xlabel("seconds")
    axes.set_ylabel("milliseconds a result")
    if not run.frames:
        return
    names = sorted({telemetry.base_name(name) for frame in run.frames for name in frame.shares})
    parts = np.array_split(np.arange(len(run.frames)), min(NUM_PARTS, len(run.frames)))
    times = [run.frames[int(part[0])].time_s for part in parts]
    heights = {
        name: [
            1000
            * sum(
                seconds
                for i in part
                for full, seconds in run.frames[int(i)].shares.items()
                if telemetry.base_name(full) == name
            )
            / len(part)
            for part in parts
        ]
        for name in names
    }
    if not names:  # a run whose results have no stages
        names = [UNNAMED]
        heights = {UNNAMED: [1000 * fmean(run.frames[int(i)].total_s for i in part) for part in parts]}
    shown = sorted(names, key=lambda name: -sum(heights[name]))
    axes.stackplot(
        times,
        [heights[name] for name in shown],
        labels=[name if name != UNNAMED else "no stage" for name in shown],
        colors=[colour_of(name) for name in shown],
    )
    axes.legend(fontsize=7, ncols=2, loc="upper right", framealpha=0.85)


def _draw_latencies(run: RunData, axes: Axes) -> None:
    axes.set_title("time of each result, without the first", fontsize=10, loc="left")
    axes.set_xlabel("milliseconds")
    axes.set_ylabel("results")
    totals = [frame.total_s * 1000 for frame in run.frames[1:]]
    if not totals:
        return
    middle, late = np.percentile(totals, (50, 95))
    axes.hist(totals, bins=min(60, max(10, len(totals) // 4)), color="#4e79a7")
    axes.axvline(float(middle), color="#59a14f", label=f"median {middle:.1f} ms")
    axes.axvline(float(late), color="#f28e2b", label=f"95th percentile {late:.1f} ms")
    if run.budget_s is not None:
        axes.axvline(run.budget_s * 1000, color="#e15759", label=f"budget {run.budget_s * 1000:.1f} ms")
    axes.legend(fontsize=8)


def _draw_memory(run: RunData, axes: Axes) -> None:
    axes.set_title("resident memory (dashed: device)", fontsize=10, loc="left")
    axes.set_xlabel("seconds")
    axes.set_ylabel("MiB")
    for used in run.usage:
        [line] = axes.plot(used.time_s, [size / 2**20 for size in used.resident_bytes], label=used.service)
        if used.device_bytes:
            device = [size / 2**20 for size in used.device_bytes]
            axes.plot(used.time_s[: len(device)], device, "--", color=line.get_color())
    _finish_usage(run, axes)


def _draw_cores(run: RunData, axes: Axes) -> None:
    axes.set_title("busy cores", fontsize=10, loc="left")
    axes.set_xlabel("seconds")
    axes.set_ylabel("cores")
    for used in run.usage:
        axes.plot(used.time_s[1:], used.cores[1:], label=used.service)
    _finish_usage(run, axes)


def _finish_usage(run: RunData, axes: Axes) -> None:
    axes.set_ylim(bottom=0)
    if run.usage:
        axes.legend(fontsize=7)
    else:
        axes.text(
            0.5, 0.5, "not recorded (--records)", ha="center", transform=axes.transAxes, color="#888888"
        )
