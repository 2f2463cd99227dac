"""The results of the model card, measured through a mesh and its client."""

from contextlib import AsyncExitStack
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from maskmesh.cli.mesh.local_mesh import LocalMesh, MeshOptions
from maskmesh.client.async_client import AsyncClient
from maskmesh.evaluation.clips import PromptKind, evaluate_clip
from maskmesh.evaluation.images import evaluate_images
from maskmesh.evaluation.table import Row, clips_row, images_row
from maskmesh.evaluation.truth import TrueFrame, read_folder, read_labels
from tools.train_micro.data.real_clips import VALIDATION_CLIPS
from tools.train_micro.data.sets import IMAGE_SETS
from tools.train_micro.data.sources import VALIDATION_NAMES, load_sources, paths_of_set
from tools.train_micro.micro import PRESET
from tools.train_micro.scenes.suites import SUITES, Suites


def held_out_images(data: Path) -> list[TrueFrame]:
    """The validation images at their original size, with their masks."""
    return [
        TrueFrame(name, data / "images" / f"{name}.jpg", read_labels(data / "masks" / f"{name}.png"))
        for name in VALIDATION_NAMES
    ]


async def evaluate_all(
    data: Path, sets: Path | None, checkpoint: Path | None, endpoint: str | None, clips: int
) -> tuple[str, list[Row]]:
    """The id of the model, and the rows: images, each suite of clips, all composed clips, filmed clips."""
    async with AsyncExitStack() as stack:
        if endpoint is None:
            mesh = await stack.enter_async_context(
                LocalMesh(MeshOptions(model=PRESET, checkpoint=checkpoint))
            )
            endpoint = mesh.endpoint
        client = await stack.enter_async_context(AsyncClient(endpoint))
        async with client.session() as session:
            model_id = session.model.model_id
        progress = stack.enter_context(Progress(console=Console(stderr=True), transient=True))
        frames = held_out_images(data)
        task = progress.add_task("images", total=len(frames))
        scores = await evaluate_images(client, frames, lambda done: progress.update(task, completed=done))
        rows = [images_row("held-out images", scores)]
        if sets is not None:
            rows += await _rows_of_sets(client, sets, progress)
        suites = Suites(load_sources(data, VALIDATION_NAMES))
        everything = []
        for suite in SUITES:
            task = progress.add_task(suite, total=clips)
            found = []
            for clip in suites.clips(suite, clips):
                found += await evaluate_clip(client, clip.name, clip.frames)
                progress.advance(task)
            rows.append(clips_row(suite, found))
            everything += found
        rows.append(clips_row("all composed clips", everything))
        if sets is not None:
            rows += await _rows_of_films(client, sets, progress)
    return model_id, rows


async def _rows_of_sets(client: AsyncClient, sets: Path, progress: Progress) -> list[Row]:
    """One row for the held-out images of each set whose ids are whole objects."""
    rows = []
    whole = [image_set for image_set in IMAGE_SETS if not image_set.parts]
    task = progress.add_task("sets", total=len(whole))
    for image_set in whole:
        paths = paths_of_set(sets, image_set, held_out=True)
        frames = [TrueFrame(path.stem, path, read_labels(mask)) for path, mask in paths]
        rows.append(images_row(image_set.name, await evaluate_images(client, frames)))
        progress.advance(task)
    return rows


async def _rows_of_films(client: AsyncClient, sets: Path, progress: Progress) -> list[Row]:
    """The held-out filmed clips, from the first masks and from clicks."""
    kinds: tuple[tuple[str, PromptKind], ...] = (("first mask", "mask"), ("1 click", "click"))
    rows = []
    for title, kind in kinds:
        scores = []
        task = progress.add_task(title, total=len(VALIDATION_CLIPS))
        for name in VALIDATION_CLIPS:
            frames = read_folder(sets / "clips" / name / "frames", sets / "clips" / name / "masks")
            scores += await evaluate_clip(client, name, frames, prompt=kind)
            progress.advance(task)
        rows.append(clips_row(f"filmed clips, {title}", scores))
    return rows
