"""``maskmesh erase``: a video without chosen objects, made by a gateway."""

import asyncio
import contextlib
import csv
import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from rich.progress import TextColumn
from rich.text import Text

from maskmesh.cli.media.outputs import check_outputs, check_suffix
from maskmesh.cli.media.overlay import save_picture
from maskmesh.cli.media.source_frames import OverlaySource, folder_frames
from maskmesh.cli.prompt_options import FrameConcept, PromptsByObject
from maskmesh.cli.run import console, progress_bars, say, warn
from maskmesh.cli.segment.segment import add_concept, say_model
from maskmesh.cli.tracing import step
from maskmesh.client.async_client import AsyncClient
from maskmesh.client.session import VideoSession
from maskmesh.concepts import ConceptOptions
from maskmesh.erasing import ErasedFrame, EraseOptions
from maskmesh.media.pictures import is_picture


@dataclass(frozen=True, slots=True)
class EraseJob:
    """Arguments of one run of the command."""

    source: Path
    prompts: PromptsByObject
    concepts: Sequence[FrameConcept]
    concept_options: ConceptOptions
    max_frames: int
    options: EraseOptions
    output: Path
    report: Path | None

    @property
    def is_video(self) -> bool:
        """Whether the source has frames: a video, or a folder of images."""
        return self.source.is_dir() or not is_picture(self.source)

    @property
    def first_frame(self) -> int:
        """The first frame that has a prompt or a concept."""
        return min([frame for _, frame in self.prompts] + [concept.frame for concept in self.concepts])


def check_job(job: EraseJob) -> None:
    """Check all that can be checked before a mesh is started.  Raises UsageError."""
    inputs = folder_frames(job.source) if job.source.is_dir() else [job.source]
    check_outputs(inputs, {"--output": job.output, "--report": job.report})
    check_suffix("--output", job.output, is_video=job.is_video)
    if not job.is_video and job.first_frame:
        raise click.UsageError("an image has only frame 0")


async def erase(job: EraseJob, client: AsyncClient) -> None:
    """Upload the source, prompt the objects, and write the frames without them."""
    async with client.session() as session:
        say_model(session.model)
        with console.status(Text(f"sending {job.source.name}")), step("upload"):
            if job.source.is_dir():
                await session.append_frames(folder_frames(job.source))
            elif job.is_video:
                await session.append_video(job.source)
            else:
                await session.append_frames([job.source])
        for (obj_id, frame_index), prompt in job.prompts.items():
            await session.add_prompt(frame_index, obj_id, points=prompt.points, box=prompt.box)
        for number, concept in enumerate(job.concepts, start=1):
            await add_concept(session, number, concept, job.concept_options)
        with step("erase"):
            if job.is_video:
                await _erase_video(job, session)
            else:
                await _erase_image(job, session)


async def _erase_image(job: EraseJob, session: VideoSession) -> None:
    # Pixels outside of the objects stay as they are.
    options = dataclasses.replace(job.options, image_format="png")
    with contextlib.ExitStack() as stack:
        note = _report(job.report, stack)
        async for frame in session.erase(options):
            await asyncio.to_thread(save_picture, job.output, frame.erased.decode())
            note(frame)
            say(f"{frame.erased.invented_pixels} pixels are filled in: {job.output}")


async def _erase_video(job: EraseJob, session: VideoSession) -> None:
    total = session.num_frames - job.first_frame
    total = min(total, job.max_frames) if job.max_frames else total
    start, count, propagated, invented = time.perf_counter(), 0, 0, 0
    source = await asyncio.to_thread(OverlaySource, job.source, job.output, session.frames_per_second)
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(source.writer)
        note = _report(job.report, stack)
        # Frames before the first prompt have no objects.
        for index in range(job.first_frame):
            await asyncio.to_thread(_copy, source, index)
        progress = stack.enter_context(progress_bars(TextColumn("{task.fields[rate]}")))
        task = progress.add_task("erasing", total=total, rate="")
        async for frame in session.erase(job.options, max_frames=job.max_frames):
            pixels = await asyncio.to_thread(frame.erased.decode)
            await asyncio.to_thread(writer.write, pixels, source.time_of(frame.frame_index))
            note(frame)
            count += 1
            propagated += frame.erased.propagated_pixels
            invented += frame.erased.invented_pixels
            rate = f"{count / (time.perf_counter() - start):.1f} frames/s"
            progress.update(task, advance=1, rate=rate)
    seconds = time.perf_counter() - start
    say(f"{count} frames in {seconds:.1f} s ({count / seconds:.1f} frames/s)")
    if propagated + invented:
        share = propagated / (propagated + invented)
        say(f"{share:.0%} of what was erased is shown by other frames, {1 - share:.0%} is invented")
    else:
        warn("nothing was erased: the objects have no masks")
    say(f"output: {job.output}")


def _copy(source: OverlaySource, frame_index: int) -> None:
    source.writer.write(source.read(frame_index), source.time_of(frame_index))


def _report(path: Path | None, stack: contextlib.ExitStack) -> Callable[[ErasedFrame], None]:
    """Writes a line for each frame, if there is a file for it."""
    if path is None:
        return lambda frame: None
    writer = csv.writer(stack.enter_context(path.open("w", encoding="utf-8", newline="")))
    writer.writerow(("frame", "time", "propagated_pixels", "invented_pixels", "trace_id"))

    def note(frame: ErasedFrame) -> None:
        seconds = "" if frame.time is None else round(frame.time, 6)
        erased = frame.erased
        writer.writerow(
            (frame.frame_index, seconds, erased.propagated_pixels, erased.invented_pixels, frame.trace_id)
        )

    return note
