"""``maskmesh evaluate``: scores of a mesh's masks on folders of images and true masks."""

import json
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import Progress

from maskmesh.cli.records.options import RecordOptions
from maskmesh.cli.records.recorder import recording
from maskmesh.client.async_client import AsyncClient
from maskmesh.evaluation.clips import PromptKind, evaluate_clip
from maskmesh.evaluation.concepts import evaluate_clip_concept, evaluate_image_concepts
from maskmesh.evaluation.images import evaluate_images
from maskmesh.evaluation.table import (
    CONCEPT_LEGEND,
    LEGEND,
    Row,
    clips_row,
    concepts_row,
    images_row,
    make_table,
)
from maskmesh.evaluation.truth import FrameSet, TrueFrame, find_sets

_TABLE_WIDTH = 100  # least width of the table, even if the output is a file


class EvaluationOptions(NamedTuple):
    """What is evaluated: images, or clips if ``video``, from prompts or from a phrase.

    ``clicks`` are those of an object of an image, ``prompt`` is that of an object of a clip.
    """

    video: bool
    concept: str
    clicks: int
    prompt: PromptKind
    json_path: Path | None
    records: RecordOptions


async def evaluate_folder(client: AsyncClient, images: Path, masks: Path, options: EvaluationOptions) -> None:
    """Evaluate a folder, or the folders in it, and print the table; see :func:`find_sets`.

    Raises ValueError if the images and masks do not match.
    """
    sets = find_sets(images, masks)
    console = Console(highlight=False)
    async with client.session() as session:
        model_id = session.model.model_id
    rows: list[Row] = []
    scores: dict[str, Sequence[Any]] = {}
    async with AsyncExitStack() as stack:
        progress = stack.enter_context(Progress(console=Console(stderr=True), transient=True))
        recorder = await stack.enter_async_context(recording(options.records, "evaluate", client))
        recorded = recorder.sequence()
        count = 0
        for one in sets:
            frames = one.read()
            task = progress.add_task(one.name, total=len(frames))

            def show(done: int, task: Any = task, before: int = count) -> None:
                progress.update(task, completed=done)
                recorded.add_call(before + done - 1, {})

            scores[one.name] = await _evaluate(client, one, frames, options, show)
            rows.append(_row(one.name, scores[one.name], options))
            count += len(frames)
            progress.remove_task(task)
    everything = [score for of_set in scores.values() for score in of_set]
    total = _row(images.resolve().name if len(sets) == 1 else "all", everything, options)
    output = Console(highlight=False, width=max(console.width, _TABLE_WIDTH))
    output.print(make_table(rows if len(sets) == 1 else [*rows, total], model_id))
    if options.concept or options.video:
        output.print(CONCEPT_LEGEND if options.concept else LEGEND)
    if options.json_path is not None:
        content = {"model_id": model_id, **total.to_json(), "scores": [asdict(s) for s in everything]}
        if len(sets) > 1:
            del content["scores"]
            content["sets"] = [
                row.to_json() | {"scores": [asdict(s) for s in scores[row.name]]} for row in rows
            ]
        options.json_path.write_text(json.dumps(content, indent=2) + "\n")
        output.print(f"scores: {options.json_path}")


async def _evaluate(
    client: AsyncClient,
    one: FrameSet,
    frames: Sequence[TrueFrame],
    options: EvaluationOptions,
    show: Callable[[int], None],
) -> Sequence[Any]:
    """The scores of one set."""
    if options.concept and options.video:
        return [await evaluate_clip_concept(client, one.name, frames, options.concept, show)]
    if options.concept:
        return await evaluate_image_concepts(client, frames, options.concept, show)
    if options.video:
        return await evaluate_clip(client, one.name, frames, show, prompt=options.prompt)
    return await evaluate_images(client, frames, show, clicks=options.clicks)


def _row(name: str, scores: Sequence[Any], options: EvaluationOptions) -> Row:
    if options.concept:
        return concepts_row(name, scores)
    return clips_row(name, scores) if options.video else images_row(name, scores)
