"""The results of the model card, measured through a mesh and its client."""

from contextlib import AsyncExitStack
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from maskmesh.cli.mesh.local_mesh import LocalMesh, MeshOptions
from maskmesh.client.async_client import AsyncClient
from maskmesh.evaluation.clips import evaluate_clip
from maskmesh.evaluation.images import evaluate_images
from maskmesh.evaluation.table import Row, clips_row, images_row
from maskmesh.evaluation.truth import TrueFrame, read_labels
from tools.train_micro.data.sources import VALIDATION_NAMES, load_sources
from tools.train_micro.micro import PRESET
from tools.train_micro.scenes.suites import SUITES, Suites


def held_out_images(data: Path) -> list[TrueFrame]:
    """The validation images at their original size, with their masks."""
    return [
        TrueFrame(name, data / "images" / f"{name}.jpg", read_labels(data / "masks" / f"{name}.png"))
        for name in VALIDATION_NAMES
    ]


async def evaluate_all(
    data: Path, checkpoint: Path | None, endpoint: str | None, clips: int
) -> tuple[str, list[Row]]:
    """The id of the model, and the rows: the images, each suite of clips, and all clips together."""
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
    return model_id, [*rows, clips_row("all clips", everything)]
