"""``maskmesh segment``: segmentation of a video, an image or a folder of images by a gateway."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.progress import TextColumn
from rich.text import Text

from maskmesh.cli.media.outputs import (
    MasksFile,
    check_outputs,
    check_suffix,
    object_json,
    rle_masks,
)
from maskmesh.cli.media.overlay import overlay, save_picture
from maskmesh.cli.media.result_files import ResultFiles
from maskmesh.cli.media.source_frames import OverlaySource, folder_frames
from maskmesh.cli.prompt_options import FrameConcept, FramePrompt, PromptsByObject
from maskmesh.cli.records.options import RecordOptions
from maskmesh.cli.records.recorder import RecordedSequence, recording
from maskmesh.cli.run import console, progress_bars, reason_of, say, warn
from maskmesh.cli.segment.truth import TrueMasks, compare, read_truth
from maskmesh.cli.tracing import step
from maskmesh.client.async_client import AsyncClient
from maskmesh.client.session import VideoSession
from maskmesh.concepts import DEFAULT_OPTIONS, ConceptOptions
from maskmesh.media.file_kind import REFUSED, kind_of
from maskmesh.media.pictures import is_picture, read_picture
from maskmesh.types import FrameMasks, ModelInfo, Prompt


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
    concepts: Sequence[FrameConcept] = ()
    concept_options: ConceptOptions = DEFAULT_OPTIONS
    records: RecordOptions = field(default_factory=RecordOptions)

    @property
    def named_frames(self) -> list[int]:
        """The frames that have a prompt or a concept."""
        return [frame for _, frame in self.prompts] + [concept.frame for concept in self.concepts]

    @property
    def titles(self) -> dict[int, str]:
        """The titles of the concepts, which are numbered from 1."""
        return {number: concept.title for number, concept in enumerate(self.concepts, start=1)}

    @property
    def is_video(self) -> bool:
        """Whether the source has frames: a video, or a folder of images."""
        return self.source.is_dir() or not is_picture(self.source)


def check_job(job: Job) -> None:
    """Check all that can be checked before a mesh is started.  Raises UsageError."""
    if job.source.is_file() and not job.source.stat().st_size:
        raise click.UsageError(f"{job.source} is empty")
    if not job.is_video and (kind := kind_of(job.source)) in REFUSED:
        raise click.UsageError(f"{job.source}: {kind.value} is not taken as an image: {REFUSED[kind]}")
    inputs = [job.source] if job.truth is None else [job.source, job.truth]
    if job.source.is_dir():
        inputs = [*folder_frames(job.source), *inputs[1:]]
    check_outputs(inputs, {"--output": job.output, "--masks": job.masks})
    check_suffix("--output", job.output, is_video=job.is_video)
    if job.is_video and job.multimask:
        raise click.UsageError("--multimask is for images: a video is tracked with one mask for each object")
    if job.concepts and not job.is_video and job.multimask:
        raise click.UsageError("--multimask is for --point and --box")
    if not job.is_video and job.truth is not None:
        raise click.UsageError("--truth requires a video")
    if not job.is_video and job.max_frames:
        raise click.UsageError("--max-frames requires a video")
    if not job.is_video and any(job.named_frames):
        raise click.UsageError("an image has only frame 0")
    if not job.is_video and job.prompts and job.concepts:
        raise click.UsageError("on an image, --concept cannot be combined with --point and --box")


async def segment(job: Job, client: AsyncClient) -> None:
    """Segment the job's video or image."""
    async with client.session() as session:
        say_model(session.model)
        async with recording(job.records, "segment", client) as recorder:
            if job.is_video:
                await _segment_video(job, session, recorder.sequence())
            else:
                await _segment_image(job, client, recorder.sequence())


async def _segment_image(job: Job, client: AsyncClient, recorded: RecordedSequence) -> None:
    prompts = {obj_id: _prompt(p) for (obj_id, _), p in job.prompts.items()}
    result = await client.segment_image(job.source, prompts, multimask_output=job.multimask)
    recorded.add_call(0, {})
    best = {obj_id: masks[0] for obj_id, masks in result.objects.items()}
    for obj_id, mask in best.items():
        say(f"object {obj_id}: predicted IoU {mask.predicted_iou:.2f}")
    if job.masks is not None:
        objects = [object_json(m) for masks in result.objects.values() for m in masks]
        with MasksFile(job.masks, _masks_header(job, result.width, result.height)) as masks_file:
            masks_file.write({"frame_index": 0, "objects": objects})
        say(f"masks: {job.masks}")
    if job.output is not None:
        with step("draw"):
            save_picture(job.output, overlay(read_picture(job.source), rle_masks(best)))
        say(f"overlay: {job.output}")
    say(f"trace: {result.trace_id}")


async def _segment_video(job: Job, session: VideoSession, recorded: RecordedSequence) -> None:
    truth = _truth(job)
    with console.status(Text(f"sending {job.source.name}")), step("upload"):
        if job.source.is_dir():
            await session.append_frames(folder_frames(job.source))
        else:
            await session.append_video(job.source)
    for (obj_id, frame_index), prompt in job.prompts.items():
        start = time.perf_counter()
        await session.add_prompt(frame_index, obj_id, points=prompt.points, box=prompt.box)
        milliseconds = (time.perf_counter() - start) * 1000
        say(f"object {obj_id}, frame {frame_index}: prompted in {milliseconds:.0f} ms")
    for number, concept in enumerate(job.concepts, start=1):
        await add_concept(session, number, concept, job.concept_options)
    total = session.num_frames - min(job.named_frames)
    total = min(total, job.max_frames) if job.max_frames else total
    frames: list[FrameMasks] = []
    start = time.perf_counter()
    try:
        with step("track"):
            await _track(job, session, recorded, total, frames)
    except BaseException as error:
        _say_results(job, frames, time.perf_counter() - start)
        warn(f"ended after {len(frames)} of {total} frames: {reason_of(error)}")
        raise
    _say_results(job, frames, time.perf_counter() - start)
    if truth is not None:
        for line in compare(frames, truth):
            say(line)


async def add_concept(
    session: VideoSession, number: int, concept: FrameConcept, options: ConceptOptions
) -> None:
    """Add a concept of the command line, and say what it finds."""
    start = time.perf_counter()
    found = await session.add_concept(number, concept.concept, frame_index=concept.frame, options=options)
    milliseconds = (time.perf_counter() - start) * 1000
    count = 0 if found is None else len(found.objects)
    say(f"{concept.title}, frame {concept.frame}: {count} found in {milliseconds:.0f} ms")


async def _track(
    job: Job, session: VideoSession, recorded: RecordedSequence, total: int, frames: list[FrameMasks]
) -> None:
    """Track to the end.  Whatever ends it, every frame in ``frames`` is in the files."""
    start = time.perf_counter()
    with step("read_source"):
        source = (
            None
            if job.output is None
            else await asyncio.to_thread(OverlaySource, job.source, job.output, session.frames_per_second)
        )
    files = ResultFiles(job.masks, _masks_header(job, session.width, session.height), source, job.titles)
    async with files:
        with progress_bars(TextColumn("{task.fields[rate]}")) as progress:
            task = progress.add_task("tracking", total=total, rate="")
            recorded.restart()
            async for result in session.propagate(max_frames=job.max_frames):
                recorded.add(result)
                await files.write(result)
                frames.append(result)
                rate = len(frames) / (time.perf_counter() - start)
                progress.update(task, advance=1, rate=f"{rate:.1f} frames/s")


def _truth(job: Job) -> TrueMasks | None:
    if job.truth is None:
        return None
    truth = read_truth(job.truth)
    truth_ids = sorted({obj_id for objects in truth.values() for obj_id in objects})
    for obj_id, _ in job.prompts:
        if obj_id not in truth_ids:
            raise click.UsageError(f"--truth has no object {obj_id}; its objects are {truth_ids}")
    return truth


def _masks_header(job: Job, width: int, height: int) -> dict[str, Any]:
    header: dict[str, Any] = {"source": job.source.name, "width": width, "height": height}
    header["is_image"] = not job.is_video
    if job.source.is_dir():
        header["files"] = [path.name for path in folder_frames(job.source)]
    if job.concepts:
        header["concepts"] = [{"concept_id": number, "phrase": title} for number, title in job.titles.items()]
    return header


def _say_results(job: Job, frames: list[FrameMasks], seconds: float) -> None:
    if not frames:
        return
    for name, path in (("masks", job.masks), ("overlay", job.output)):
        if path is not None:
            say(f"{name}: {path}")
    if repeated := [frame.frame_index for frame in frames if frame.repeats_previous]:
        warn(f"the video is damaged: {_ranges(repeated)} repeat the picture before")
    for number, title in job.titles.items():
        ids = {i for frame in frames for i, o in frame.objects.items() if o.concept_id == number}
        say(f"{title}: {len(ids)} {'object' if len(ids) == 1 else 'objects'} in {len(frames)} frames")
    say(f"{len(frames)} frames in {seconds:.1f} s ({len(frames) / seconds:.1f} frames/s)")


def _ranges(indices: list[int]) -> str:
    """Frames in words, for example ``frames 3, 7 to 9``."""
    ranges: list[list[int]] = []
    for index in indices:
        if ranges and index == ranges[-1][-1] + 1:
            ranges[-1][1:] = [index]
        else:
            ranges.append([index])
    return "frames " + ", ".join(" to ".join(str(end) for end in ends) for ends in ranges)


def say_model(model: ModelInfo) -> None:
    """Print the model, and a warning if it is untrained."""
    say(f"model: {model.name} at {model.image_size} x {model.image_size}, {model.device}")
    if not model.trained:
        warn(
            f"{model.name} is untrained, so its masks are meaningless. "
            "For real masks set --model and --checkpoint."
        )


def _prompt(prompt: FramePrompt) -> Prompt:
    return Prompt(prompt.points, prompt.box)
