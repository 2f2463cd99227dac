"""``maskmesh segment``: segmentation of a video or an image by a gateway."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from PIL import Image as PillowImage
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from maskmesh.cli.media import overlay, read_frames, video_writer
from maskmesh.cli.prompt_options import FramePrompt, PromptsByObject
from maskmesh.cli.truth import compare, read_truth
from maskmesh.client.async_client import AsyncClient
from maskmesh.client.session import VideoSession
from maskmesh.images import is_image, read_image
from maskmesh.masks import RleMask
from maskmesh.types import FrameMasks, ModelInfo, ObjectMask, Prompt


@dataclass(frozen=True, slots=True)
class Job:
    """Arguments of one run of the command."""

    source: Path
    prompts: PromptsByObject
    max_frames: int
    multimask: bool
    output: Path | None
    masks: Path | None
    truth: Path | None = None


async def segment(job: Job, client: AsyncClient, console: Console) -> None:
    """Segment the job's video or image."""
    async with client.session() as session:
        say_model(session.model, console)
        if is_image(job.source):
            if job.truth is not None:
                raise click.UsageError("--truth requires a video")
            await _segment_image(job, client, console)
        else:
            await _segment_video(job, session, console)


async def _segment_image(job: Job, client: AsyncClient, console: Console) -> None:
    if any(frame for _, frame in job.prompts):
        raise click.UsageError("an image has only frame 0")
    prompts = {obj_id: _prompt(p) for (obj_id, _), p in job.prompts.items()}
    result = await client.segment_image(job.source.read_bytes(), prompts, multimask_output=job.multimask)
    best = {obj_id: masks[0] for obj_id, masks in result.objects.items()}
    for obj_id, mask in best.items():
        console.print(f"object {obj_id}: predicted IoU {mask.predicted_iou:.2f}")
    if job.output is not None:
        drawn = overlay(read_image(job.source), _rles(best))
        PillowImage.fromarray(drawn).save(job.output)
        console.print(f"overlay: {job.output}")
    if job.masks is not None:
        objects = [_object_json(m) for masks in result.objects.values() for m in masks]
        size = {"width": result.width, "height": result.height}
        _write_masks(job, [{"frame_index": 0, "objects": objects}], size)
        console.print(f"masks: {job.masks}")
    console.print(f"trace: {result.trace_id}")


async def _segment_video(job: Job, session: VideoSession, console: Console) -> None:
    truth = None if job.truth is None else read_truth(job.truth)
    if truth is not None:
        truth_ids = sorted({obj_id for objects in truth.values() for obj_id in objects})
        for obj_id, _ in job.prompts:
            if obj_id not in truth_ids:
                raise click.UsageError(f"--truth has no object {obj_id}; its objects are {truth_ids}")
    with console.status(f"sending {job.source.name}"):
        await session.append_video(job.source)
    for (obj_id, frame_index), prompt in job.prompts.items():
        start = time.perf_counter()
        await session.add_prompt(frame_index, obj_id, points=prompt.points, box=prompt.box)
        milliseconds = (time.perf_counter() - start) * 1000
        console.print(f"object {obj_id}, frame {frame_index}: prompted in {milliseconds:.0f} ms")

    first = min(frame for _, frame in job.prompts)
    total = session.num_frames - first
    total = min(total, job.max_frames) if job.max_frames else total
    frames: list[FrameMasks] = []
    start = time.perf_counter()
    with _progress(console) as progress:
        task = progress.add_task("tracking", total=total, rate="")
        async with _overlay_video(job, session.frames_per_second) as draw:
            async for result in session.propagate(max_frames=job.max_frames):
                frames.append(result)
                draw(result)
                rate = len(frames) / (time.perf_counter() - start)
                progress.update(task, advance=1, rate=f"{rate:.1f} frames/s")
            seconds = time.perf_counter() - start
    if job.masks is not None:
        _write_masks(
            job,
            [frame_json(f) for f in frames],
            {"width": session.width, "height": session.height},
        )
        console.print(f"masks: {job.masks}")
    if job.output is not None:
        console.print(f"overlay: {job.output}")
    if truth is not None:
        for line in compare(frames, truth):
            console.print(line)
    rate = len(frames) / seconds
    console.print(f"{len(frames)} frames in {seconds:.1f} s ({rate:.1f} frames/s)")


@asynccontextmanager
async def _overlay_video(job: Job, frames_per_second: float) -> AsyncIterator[Callable[[FrameMasks], None]]:
    """Yields a function that draws a frame on its own thread, so that the mesh never waits for it."""
    if job.output is None:
        yield lambda frame: None
        return
    with (
        video_writer(job.output, frames_per_second) as write,
        ThreadPoolExecutor(1, thread_name_prefix="overlay") as thread,
    ):
        pictures = enumerate(read_frames(job.source))

        def draw(frame: FrameMasks) -> None:
            pixels = next(p for i, p in pictures if i == frame.frame_index)
            write(overlay(pixels, _rles(frame.objects)))

        drawn: list[Future[None]] = []
        yield lambda frame: drawn.append(thread.submit(draw, frame))
        for future in drawn:
            await asyncio.wrap_future(future)


def say_model(model: ModelInfo, console: Console) -> None:
    """Print the model, and a warning if it is untrained."""
    console.print(f"model: {model.name} at {model.image_size} x {model.image_size}, {model.device}")
    if not model.trained:
        console.print(
            f"[yellow]{model.name} is untrained, so its masks are meaningless. "
            "For real masks set --model and --checkpoint.[/yellow]"
        )


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        console=console,
    )


def _prompt(prompt: FramePrompt) -> Prompt:
    return Prompt(prompt.points, prompt.box)


def _rles(objects: Mapping[int, ObjectMask]) -> dict[int, RleMask]:
    return {i: o.mask for i, o in objects.items() if isinstance(o.mask, RleMask)}


def _object_json(mask: ObjectMask) -> dict[str, Any]:
    assert isinstance(mask.mask, RleMask), "the command requests COCO RLE"
    return {
        "obj_id": mask.obj_id,
        "segmentation": mask.mask.to_coco(),
        "predicted_iou": round(mask.predicted_iou, 4),
        "object_score_logit": round(mask.object_score_logit, 4),
    }


def frame_json(frame: FrameMasks) -> dict[str, Any]:
    """One frame in the JSON form of ``--masks``."""
    return {
        "frame_index": frame.frame_index,
        "trace_id": frame.trace_id,
        "objects": [_object_json(o) for o in frame.objects.values()],
    }


def _write_masks(job: Job, frames: Sequence[dict[str, Any]], size: dict[str, int]) -> None:
    assert job.masks is not None, "only called with --masks"
    content = {"source": job.source.name, **size, "frames": list(frames)}
    job.masks.write_text(json.dumps(content) + "\n")
