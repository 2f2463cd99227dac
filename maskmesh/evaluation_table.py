"""One table for whatever was evaluated."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from rich import box
from rich.table import Table

from maskmesh.evaluation import ImageScores, ObjectScores

# An object counts as found again, or as not mistaken for another, from this IoU on.
KEPT_IOU = 0.5

COLUMNS = {
    "click": "IoU, 1 click",
    "box": "IoU, box",
    "j": "J",
    "f": "F",
    "j_in_sight": "J in sight",
    "kept": "kept",
    "sight": "sight",
}
LEGEND = (
    "J, F: regions and outlines, 1 click on frame 0. kept: share of objects whose last five frames in sight "
    f"have a J of {KEPT_IOU} or more. sight: share of frames whose object score has the right sign."
)


@dataclass(frozen=True, slots=True)
class Row:
    """One line: what was evaluated, how many images or objects, and means by the keys of COLUMNS."""

    name: str
    count: int
    figures: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """As it is written with ``--json``."""
        return {"name": self.name, "count": self.count} | {k: round(v, 4) for k, v in self.figures.items()}


def images_row(name: str, scores: Sequence[ImageScores]) -> Row:
    """Means over images.  Raises statistics.StatisticsError without any."""
    return Row(
        name, len(scores), {"click": fmean(s.click for s in scores), "box": fmean(s.box for s in scores)}
    )


def clips_row(name: str, scores: Sequence[ObjectScores]) -> Row:
    """Means over the objects of one clip or several.  Raises statistics.StatisticsError without any."""
    figures = {key: fmean(getattr(s, key) for s in scores) for key in ("j", "f", "j_in_sight", "sight")}
    kept = fmean(s.late_j >= KEPT_IOU for s in scores)
    return Row(name, len(scores), figures | {"kept": kept})


def make_table(rows: Sequence[Row]) -> Table:
    """The rows under the columns that any of them has."""
    columns = [key for key in COLUMNS if any(key in row.figures for row in rows)]
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for title in ("count", *(COLUMNS[key] for key in columns)):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        cells = (f"{row.figures[key]:.3f}" if key in row.figures else "" for key in columns)
        table.add_row(row.name, str(row.count), *cells)
    return table
