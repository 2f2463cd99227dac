"""The table of evaluation scores, of images and of clips."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from rich import box
from rich.table import Table

from maskmesh.evaluation.clips import ObjectScores
from maskmesh.evaluation.concepts import MATCH_IOU, ConceptScores
from maskmesh.evaluation.images import ImageScores

# Least IoU at which an object counts as kept: found again, and not mistaken for another.
KEPT_IOU = 0.5

# Numbers of clicks whose IoU is shown.
SHOWN_CLICKS = (1, 3, 5, 10)

COLUMNS = {
    "click": "IoU, 1 click",
    **{f"clicks_{count}": f"{count} clicks" for count in SHOWN_CLICKS[1:]},
    "box": "IoU, box",
    "j_and_f": "J&F",
    "j": "J",
    "f": "F",
    "j_in_sight": "J in sight",
    "kept": "kept",
    "sight": "sight",
    "iou": "IoU",
    "precision": "precision",
    "recall": "recall",
}
LEGEND = (
    "J, F: regions and outlines, without the first and the last frame; J&F: their mean. in sight: "
    "frames that show the object. kept: share of objects whose last five frames in sight have a mean J of "
    f"{KEPT_IOU} or more. sight: share of frames on which the object score has the right sign."
)
CONCEPT_LEGEND = (
    "Found objects are matched one to one with true ones. IoU: of true objects with their match, 0 for none, "
    "in clips over all frames. precision, recall: shares of found and of true objects with an IoU of "
    f"{MATCH_IOU} or more."
)


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the name of the data, the number of objects, and means by the keys of COLUMNS."""

    name: str
    count: int
    figures: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """The row as ``--json`` writes it."""
        return {"name": self.name, "count": self.count, **self.figures}


def images_row(name: str, scores: Sequence[ImageScores]) -> Row:
    """Means over the objects of images.  Raises statistics.StatisticsError if ``scores`` is empty."""
    figures = {"click": fmean(s.click for s in scores), "box": fmean(s.box for s in scores)}
    for count in SHOWN_CLICKS[1:]:
        ious = [iou for score in scores if (iou := score.after(count)) is not None]
        if ious:
            figures[f"clicks_{count}"] = fmean(ious)
    return Row(name, len(scores), figures)


def clips_row(name: str, scores: Sequence[ObjectScores]) -> Row:
    """Means over the objects of clips.  Raises statistics.StatisticsError if ``scores`` is empty."""
    figures = {key: fmean(getattr(s, key) for s in scores) for key in ("j", "f", "sight")}
    figures["j_and_f"] = (figures["j"] + figures["f"]) / 2
    if in_sight := [s.j_in_sight for s in scores if s.j_in_sight is not None]:
        figures["j_in_sight"] = fmean(in_sight)
    if late := [s.late_j for s in scores if s.late_j is not None]:
        figures["kept"] = fmean(j >= KEPT_IOU for j in late)
    return Row(name, len(scores), figures)


def concepts_row(name: str, scores: Sequence[ConceptScores]) -> Row:
    """Means over the objects that concepts found.  Raises statistics.StatisticsError without true objects."""
    ious = [iou for score in scores for iou in score.ious]
    num_found, num_matched = sum(s.num_found for s in scores), sum(s.num_matched for s in scores)
    figures = {"iou": fmean(ious), "recall": num_matched / len(ious)}
    if num_found:
        figures["precision"] = num_matched / num_found
    return Row(name, len(ious), figures)


def make_table(rows: Sequence[Row], model_id: str) -> Table:
    """A table of the rows, with the columns that at least one of them has."""
    columns = [key for key in COLUMNS if any(key in row.figures for row in rows)]
    table = Table(title=model_id, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for title in ("objects", *(COLUMNS[key] for key in columns)):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        cells = (f"{row.figures[key]:.3f}" if key in row.figures else "" for key in columns)
        table.add_row(row.name, str(row.count), *cells)
    return table
