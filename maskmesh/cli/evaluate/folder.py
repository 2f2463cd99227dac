"""``maskmesh evaluate``: scores of a mesh's masks on a folder of images and true masks."""

import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import Progress

from maskmesh.cli.records.options import RecordOptions
from maskmesh.cli.records.recorder import recording
from maskmesh.client.async_client import AsyncClient
from maskmesh.evaluation.clips import ImageScores, ObjectScores, evaluate_clip, evaluate_images, read_folder
from maskmesh.evaluation.concepts import ConceptScores, evaluate_clip_concept, evaluate_image_concepts
from maskmesh.evaluation.table import (
    CONCEPT_LEGEND,
    LEGEND,
    clips_row,
    concepts_row,
    images_row,
    make_table,
)

_TABLE_WIDTH = 100  # least width of the table, even if the output is a file


class EvaluationOptions(NamedTuple):
    """What is evaluated: images, or a clip if ``video``, from clicks and boxes or from a phrase."""

    video: bool
    concept: str
    json_path: Path | None
    records: RecordOptions


async def evaluate_folder(client: AsyncClient, images: Path, masks: Path, options: EvaluationOptions) -> None:
    """Evaluate a folder and print the table; with a concept, of what its phrase finds.

    Raises ValueError if the images and masks do not match.
    """
    video, concept, json_path, _ = options
    frames = read_folder(images, masks)
    name = images.resolve().name
    console = Console(highlight=False)
    scores: Sequence[ImageScores | ObjectScores | ConceptScores]
    async with client.session() as session:
        model_id = session.model.model_id
    async with AsyncExitStack() as stack:
        progress = stack.enter_context(Progress(console=Console(stderr=True), transient=True))
        task = progress.add_task("evaluating", total=len(frames))

        recorder = await stack.enter_async_context(recording(options.records, "evaluate", client))
        recorded = recorder.sequence()

        def show(done: int) -> None:
            progress.update(task, completed=done)
            recorded.add_call(done - 1, {})

        if concept and video:
            scores = found = [await evaluate_clip_concept(client, name, frames, concept, show)]
            row = concepts_row(name, found)
        elif concept:
            scores = found = await evaluate_image_concepts(client, frames, concept, show)
            row = concepts_row(name, found)
        elif video:
            clip = await evaluate_clip(client, name, frames, show)
            row, scores = clips_row(name, clip), clip
        else:
            stills = await evaluate_images(client, frames, show)
            row, scores = images_row(name, stills), stills
    output = Console(highlight=False, width=max(console.width, _TABLE_WIDTH))
    output.print(make_table([row], model_id))
    if concept or video:
        output.print(CONCEPT_LEGEND if concept else LEGEND)
    if json_path is not None:
        content = {"model_id": model_id, **row.to_json(), "scores": [asdict(score) for score in scores]}
        json_path.write_text(json.dumps(content, indent=2) + "\n")
        output.print(f"scores: {json_path}")
