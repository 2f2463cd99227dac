"""``maskmesh evaluate --erase`` and ``--points``: erased holes and followed points against known truths."""

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from maskmesh.cli.media.source_frames import folder_frames
from maskmesh.client.async_client import AsyncClient
from maskmesh.erasing import EraseOptions
from maskmesh.evaluation.drawn_clips import drawn_clips
from maskmesh.evaluation.erasing import DILATION, EraseScores, evaluate_erasing
from maskmesh.evaluation.holes import moving_shapes, stationary_boxes
from maskmesh.evaluation.points import PointScores, evaluate_points
from maskmesh.evaluation.truth import read_labels
from maskmesh.media.pictures import read_picture

# Structural similarity compares windows of 7 x 7.
MIN_SIDE = 16

ERASE_LEGEND = (
    "PSNR in dB, SSIM and flicker (warping error in levels) inside the holes; alone: each frame is filled "
    "from its own edge.  Invented: the share that no frame has shown."
)
POINT_LEGEND = "AJ: average Jaccard; accuracy: of visible positions; both over 1 to 16 pixels of 256."


async def evaluate_erased_clip(
    client: AsyncClient, images: Path, masks: Path | None, quality: Any, json_path: Path | None
) -> None:
    """Erase holes in a clip: moving shapes of masks, or boxes without masks.  Raises ValueError."""
    frames = [read_picture(path) for path in folder_frames(images)]
    for path, frame in zip(folder_frames(images), frames, strict=True):
        if frame.shape != frames[0].shape:
            raise ValueError(f"{path.name} has another size than the first frame")
    height, width = frames[0].shape[:2]
    if min(height, width) < MIN_SIDE:
        raise ValueError(f"frames have at least {MIN_SIDE} pixels a side, not {width} x {height}")
    if masks is None:
        holes = stationary_boxes(height, width, len(frames))
    else:
        shapes = [read_labels(path) > 0 for path in folder_frames(masks)]
        if not any(shape.any() for shape in shapes):
            raise ValueError(f"{masks} has no masks with an object")
        holes = moving_shapes(shapes, height, width, len(frames))
    options = EraseOptions(preset=quality, dilation=DILATION, feather=0, image_format="raw")
    name = images.resolve().parent.name if images.name == "frames" else images.resolve().name
    with _progress(len(frames)) as show:
        scores = await evaluate_erasing(client, name, frames, holes, options, show)
    table = Table()
    for title in ("clip", "PSNR", "alone", "SSIM", "alone", "flicker", "alone", "invented"):
        table.add_column(title, justify="left" if title == "clip" else "right")
    table.add_row(
        scores.clip,
        *(f"{value:.1f}" for value in (scores.psnr, scores.psnr_alone)),
        *(f"{value:.2f}" for value in (scores.ssim, scores.ssim_alone)),
        *(f"{value:.1f}" for value in (scores.flicker, scores.flicker_alone)),
        f"{scores.invented:.0%}",
    )
    _print(table, ERASE_LEGEND, [scores], json_path)


async def evaluate_drawn_points(client: AsyncClient, json_path: Path | None) -> None:
    """Follow points on clips drawn with known motion."""
    clips = drawn_clips()
    scores = []
    for clip in clips:
        with _progress(len(clip.frames)) as show:
            scores.append(await evaluate_points(client, clip, show))
    table = Table()
    for title in ("clip", "AJ", "accuracy", "visibility"):
        table.add_column(title, justify="left" if title == "clip" else "right")
    for each in scores:
        values = (each.average_jaccard, each.position_accuracy, each.occlusion_accuracy)
        table.add_row(each.clip, *(f"{value:.2f}" for value in values))
    _print(table, POINT_LEGEND, scores, json_path)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error; the value sets the number of frames done."""
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("evaluating", total=total)
        yield lambda done: progress.update(task, completed=done)


def _print(
    table: Table, legend: str, scores: Sequence[EraseScores | PointScores], json_path: Path | None
) -> None:
    console = Console(highlight=False)
    output = Console(highlight=False, width=max(console.width, 100))
    output.print(table)
    output.print(legend)
    if json_path is not None:
        content = {"scores": [dataclasses.asdict(score) for score in scores]}
        json_path.write_text(json.dumps(content, indent=2) + "\n")
