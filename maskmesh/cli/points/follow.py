"""``maskmesh points``: points of a video followed by a gateway."""

import asyncio
import contextlib
import csv
import time
from collections import defaultdict, deque
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import click
import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw
from rich.progress import TextColumn
from rich.text import Text

from maskmesh.cli.media.source_frames import OverlaySource, folder_frames
from maskmesh.cli.points.motion_file import write_motion
from maskmesh.cli.records.options import RecordOptions
from maskmesh.cli.records.recorder import RecordedSequence, recording
from maskmesh.cli.run import console, progress_bars, say, warn
from maskmesh.client.async_client import AsyncClient
from maskmesh.client.session import VideoSession
from maskmesh.masks import ByteArray
from maskmesh.points import FramePoints, MotionOptions, MotionWindow, PointGrid, PointQuery, TrackedPoint
from maskmesh.types import ModelInfo

# Positions before the last one that an overlay shows.
TRAIL = 8

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
        tracks = stack.enter_context(_TracksFile(job.tracks))
        drawing = None
        if job.output is not None:
            source = await asyncio.to_thread(OverlaySource, job.source, job.output, session.frames_per_second)
            drawing = _Drawing(stack.enter_context(source.writer), source)
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


class _TracksFile:
    """Tracks as CSV, one line for each point and frame.  A context manager."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: IO[str] | None = None
        self._writer: Any = None

    def __enter__(self) -> "_TracksFile":
        if self._path is not None:
            self._file = self._path.open("w", encoding="utf-8", newline="")
            self._writer = csv.writer(self._file)
            self._writer.writerow(("frame", "time", "point", "x", "y", "visible", "confidence"))
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, frame: FramePoints) -> None:
        """Add the points of a frame.  Raises OSError."""
        if self._writer is None:
            return
        seconds = "" if frame.time is None else round(frame.time, 6)
        for point_id, p in frame.points.items():
            place = round(p.x, 3), round(p.y, 3)
            self._writer.writerow(
                (frame.frame_index, seconds, point_id, *place, int(p.visible), round(p.confidence, 4))
            )


class _Drawing:
    """Points on the frames, with their last positions."""

    def __init__(self, writer: Any, source: OverlaySource) -> None:
        self._writer = writer
        self._source = source
        self._trails: dict[int, deque[tuple[float, float]]] = defaultdict(lambda: deque(maxlen=TRAIL))

    def write(self, frame: FramePoints) -> None:
        """Draw a frame and append it to the video."""
        pixels = self._source.read(frame.frame_index)
        self._writer.write(self._drawn(pixels, frame), self._source.time(frame))

    def _drawn(self, pixels: ByteArray, frame: FramePoints) -> ByteArray:
        picture = PillowImage.fromarray(pixels)
        draw = ImageDraw.Draw(picture)
        radius = max(1.5, min(picture.size) / 180)
        for point_id, point in frame.points.items():
            self._draw(draw, point_id, point, radius)
        return np.asarray(picture)

    def _draw(self, draw: ImageDraw.ImageDraw, point_id: int, point: TrackedPoint, radius: float) -> None:
        trail = self._trails[point_id]
        if not point.visible:
            trail.clear()
            return
        trail.append((point.x - 0.5, point.y - 0.5))
        colour = _colour(point_id)
        if len(trail) > 1:
            draw.line(list(trail), fill=colour, width=max(1, round(radius / 2)))
        x, y = trail[-1]
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, outline=(0, 0, 0))


def _colour(point_id: int) -> tuple[int, int, int]:
    """A colour that differs from those of the neighbours' numbers."""
    hue = (point_id * 0.618034) % 1.0
    rgb = PillowImage.new("HSV", (1, 1), (int(hue * 255), 200, 255)).convert("RGB").getpixel((0, 0))
    assert isinstance(rgb, tuple)
    return rgb[0], rgb[1], rgb[2]
