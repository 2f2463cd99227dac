"""The measurements, and the ratios between them."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tools.bench.machine import GFLOP_PER_FRAME


@dataclass(frozen=True, slots=True)
class Run:
    """The measurements of one contender with one number of objects."""

    contender: str
    objects: int
    first_click: float
    """Seconds of the first call."""
    frames: list[float] = field(default_factory=list)
    """Seconds of each tracked frame after the warm-up."""

    @property
    def median(self) -> float:
        """Median seconds of a tracked frame."""
        return statistics.median(self.frames)

    def to_json(self) -> dict[str, Any]:
        """The results for ``bench.json``."""
        return {
            "contender": self.contender,
            "objects": self.objects,
            "first_click_seconds": self.first_click,
            "frame_seconds": self.median,
            "frame_seconds_p95": statistics.quantiles(self.frames, n=20)[-1],
            "frames": len(self.frames),
        }


# By name of the ratio: the contender, the mesh that it is compared with, and the number of objects.
COMPARISONS = {
    "transformers_fp32": ("transformers float32", "mesh auto", 1),
    "transformers_bf16": ("transformers bfloat16", "mesh auto", 1),
    "transformers_fp32_mesh_fp32": ("transformers float32", "mesh float32", 1),
    "transformers_bf16_four_objects": ("transformers bfloat16", "mesh auto", 4),
}


def ratios(runs: Sequence[Run], rates: Mapping[str, float], mesh_dtype: str) -> dict[str, float]:
    """Ratios of frame times.

    The ratios of :data:`COMPARISONS` are the time of the contender over that of the mesh.  ``in_process``
    and ``floor`` are the time of the mesh over that of its stages in one process, and over that of their
    matrix products alone at the rate of this machine.
    """
    medians = {(run.contender, run.objects): run.median for run in runs}
    found: dict[str, float] = {}
    for name, (other, ours, objects) in COMPARISONS.items():
        if (other, objects) in medians and (ours, objects) in medians:
            found[name] = medians[other, objects] / medians[ours, objects]
    if (mesh := medians.get(("mesh auto", 1))) is not None:
        if ("stages auto", 1) in medians:
            found["in_process"] = mesh / medians["stages auto", 1]
        found["floor"] = mesh / (GFLOP_PER_FRAME * 1e9 / rates[mesh_dtype])
    return found
