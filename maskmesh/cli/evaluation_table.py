"""One table for whatever was evaluated."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from rich import box
from rich.table import Table

from maskmesh.evaluation.clips import ImageScores, ObjectScores

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
    "J, F: regions and outlines from 1 click on frame 0, without the first and the last frame. kept: share "
    f"of objects whose last five frames in sight have a J of {KEPT_IOU} or more. sight: share of frames on "
    "which the object score has the right sign."
)


@dataclass(frozen=True, slots=True)
class Row:
    """One line: what was evaluated, how many objects, and means by the keys of COLUMNS."""

    name: str
    count: int
    figures: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """As it is written with ``--json``."""
        return {"name": self.name, "count": self.count, **self.figures}


def images_row(name: str, scores: Sequence[ImageScores]) -> Row:
    """Means over the objects of images.  Raises statistics.StatisticsError without any."""
    return Row(
        name, len(scores), {"click": fmean(s.click for s in scores), "box": fmean(s.box for s in scores)}
    )


def clips_row(name: str, scores: Sequence[ObjectScores]) -> Row:
    """Means over the objects of one clip or several.  Raises statistics.StatisticsError without any."""
    figures = {key: fmean(getattr(s, key) for s in scores) for key in ("j", "f", "sight")}
    if in_sight := [s.j_in_sight for s in scores if s.j_in_sight is not None]:
        figures["j_in_sight"] = fmean(in_sight)
    if late := [s.late_j for s in scores if s.late_j is not None]:
        figures["kept"] = fmean(j >= KEPT_IOU for j in late)
    return Row(name, len(scores), figures)


def make_table(rows: Sequence[Row], model_id: str) -> Table:
    """The rows under the columns that any of them has."""
    columns = [key for key in COLUMNS if any(key in row.figures for row in rows)]
    table = Table(title=model_id, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for title in ("objects", *(COLUMNS[key] for key in columns)):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        cells = (f"{row.figures[key]:.3f}" if key in row.figures else "" for key in columns)
        table.add_row(row.name, str(row.count), *cells)
    return table
