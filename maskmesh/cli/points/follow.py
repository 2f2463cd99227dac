"""``maskmesh points``: points of a video followed by a gateway."""

import asyncio
import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

import click
from rich.progress import TextColumn
from rich.text import Text

from maskmesh.cli.media.overlay import VideoWriter
from maskmesh.cli.media.source_frames import OverlaySource, folder_frames
from maskmesh.cli.points.motion_file import write_motion
from maskmesh.cli.points.tracks import PointDrawing, TracksFile
from maskmesh.cli.records.options import RecordOptions
from maskmesh.cli.records.recorder import RecordedSequence, recording
from maskmesh.cli.run import console, progress_bars, say, warn
from maskmesh.client.async_client import AsyncClient
from maskmesh.client.session import VideoSession
from maskmesh.points import FramePoints, MotionOptions, MotionWindow, PointGrid, PointQuery
from maskmesh.types import ModelInfo

OBJECT = 1


@dataclass(frozen=True, slots=True)
class PointJob:
    """Arguments of one run of the command."""

    source: Path
    places: tuple[tuple[float, float], ...]
    grid: tuple[int, int] | None
    inside: tuple[float, float] | None
    frame: int
    max_frames: int
    output: Path | None
    tracks: Path | None
    motion: Path | None
    motion_options: MotionOptions | None
    records: RecordOptions

    @property
    def queries(self) -> list[PointQuery]:
        """The single points, numbered from 1."""
        return [PointQuery(n, self.frame, x, y) for n, (x, y) in enumerate(self.places, start=1)]

    @property
    def grids(self) -> list[PointGrid]:
        """The grid, numbered after the single points."""
        if self.grid is None:
            return []
        obj_id = None if self.inside is None else OBJECT
        return [PointGrid(*self.grid, self.frame, obj_id, first_point_id=len(self.places) + 1)]


async def follow_points(job: PointJob, client: AsyncClient) -> None:
    """Upload the source, choose the points, follow them, and write the files."""
    async with client.session() as session:
        with console.status(Text(f"sending {job.source.name}")):
            if job.source.is_dir():
                await session.append_frames(folder_frames(job.source))
            else:
                await session.append_video(job.source)
        if job.inside is not None:
            await session.add_prompt(job.frame, OBJECT, points=[job.inside])
        async with recording(job.records, "points", client) as recorder:
            await _follow(job, session, recorder.sequence())


async def _follow(job: PointJob, session: VideoSession, recorded: RecordedSequence) -> None:
    if job.frame >= session.num_frames:
        raise click.UsageError(f"--frame {job.frame}: the source has {session.num_frames} frames")
    total = session.num_frames - job.frame
    total = min(total, job.max_frames) if job.max_frames else total
    start, count, visible = time.perf_counter(), 0, 0
    windows: list[MotionWindow] = []
    async with contextlib.AsyncExitStack() as stack:
        tracks = stack.enter_context(TracksFile(job.tracks))
        drawing = None
        if job.output is not None:
            source = await asyncio.to_thread(OverlaySource, job.source, job.output, session.frames_per_second)
            drawing = _Overlay(stack.enter_context(source.writer), source)
        progress = stack.enter_context(progress_bars(TextColumn("{task.fields[rate]}")))
        task = progress.add_task("following", total=total, rate="")
        recorded.restart()
        async for frame in session.track_points(
            job.queries, grids=job.grids, motion=job.motion_options, max_frames=job.max_frames
        ):
            recorded.add_call(frame.frame_index, frame.stage_seconds)
            windows += frame.motion_windows
            if frame.model is not None:
                _say_model(frame.model, len(frame.points))
            tracks.write(frame)
            if drawing is not None:
                await asyncio.to_thread(drawing.write, frame)
            count += 1
            visible = sum(point.visible for point in frame.points.values())
            rate = count / (time.perf_counter() - start)
            progress.update(task, advance=1, rate=f"{rate:.1f} frames/s")
    seconds = time.perf_counter() - start
    say(f"{count} frames in {seconds:.1f} s ({count / seconds:.1f} frames/s)")
    say(f"{visible} points are in sight at the end")
    if job.motion is not None and job.motion_options is not None:
        write_motion(job.motion, job.source.name, job.motion_options, windows)
        boundaries = sum(len(window.boundaries) for window in windows)
        moving = sum(window.status == "moving" for window in windows)
        say(f"{moving} of {len(windows)} windows have motion, {boundaries} boundaries of actions")
    for name, path in (("tracks", job.tracks), ("motion", job.motion), ("overlay", job.output)):
        if path is not None:
            say(f"{name}: {path}")


def _say_model(model: ModelInfo, num_points: int) -> None:
    say(f"{num_points} points, {model.name} at {model.image_size} x {model.image_size}, {model.device}")
    if not model.trained and model.parameters:
        warn(f"{model.name} is untrained, so its points are meaningless")


class _Overlay:
    """The frames of the source with their points, as a video."""

    def __init__(self, writer: VideoWriter, source: OverlaySource) -> None:
        self._writer = writer
        self._source = source
        self._drawing = PointDrawing()

    def write(self, frame: FramePoints) -> None:
        """Draw a frame and append it to the video."""
        pixels = self._source.read(frame.frame_index)
        self._writer.write(self._drawing.draw(pixels, frame.points), self._source.time(frame))
