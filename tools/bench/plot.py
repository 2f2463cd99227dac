"""The plot of a benchmark."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot as plt

from tools.bench.figures import Run


def draw(runs: Sequence[Run], floor: float, path: Path) -> None:
    """Plot the median seconds of a tracked frame by contender, and the lower bound for one object."""
    groups = sorted({run.objects for run in runs})
    figure, axes = plt.subplots(
        1, len(groups), figsize=(4.5 * len(groups), 3.4), layout="constrained", squeeze=False
    )
    for axis, objects in zip(axes[0], groups, strict=True):
        shown = [run for run in runs if run.objects == objects]
        colours = ["tab:blue" if run.contender.startswith("mesh") else "tab:grey" for run in shown]
        bars = axis.barh([run.contender for run in shown], [run.median for run in shown], color=colours)
        axis.bar_label(bars, fmt="%.2f s", padding=3)
        axis.margins(x=0.25)
        axis.invert_yaxis()
        axis.set_xlabel("seconds per tracked frame, median")
        axis.set_title("one object" if objects == 1 else f"{objects} objects")
        if objects == 1:
            axis.axvline(floor, color="black", linestyle=":", label="matrix products alone")
    figure.legend(loc="outside lower left")
    figure.savefig(path, dpi=120)
    plt.close(figure)
