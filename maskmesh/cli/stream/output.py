"""What ``maskmesh stream`` writes and tells as results arrive."""

import json
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import IO

from maskmesh.cli.media.live_source import LiveFrame, LiveSource
from maskmesh.cli.media.outputs import frame_json, rle_masks
from maskmesh.cli.media.overlay import OverlayThread, VideoWriter, concept_labels
from maskmesh.cli.points.motion_file import MotionLog, boundary_text
from maskmesh.cli.points.tracks import PointDrawing, TracksFile
from maskmesh.cli.run import say, warn
from maskmesh.cli.stream.job import StreamJob
from maskmesh.client.live.live_result import LiveResult


class StreamOutput:
    """Writes masks, tracks, motion and the overlay; the files are valid whenever the context ends."""

    def __init__(self, titles: Mapping[int, str]) -> None:
        """``titles`` are those of the concepts, by ``concept_id``."""
        self._titles = titles
        self._frames: dict[int, LiveFrame] = {}
        self._overlay: OverlayThread | None = None
        self._writer: VideoWriter | None = None
        self._source: LiveSource | None = None
        self._masks: IO[str] | None = None
        self._first: float | None = None
        self._tracks = TracksFile(None)
        self._drawing = PointDrawing()
        self._motion: MotionLog | None = None

    async def open(self, job: StreamJob, source: LiveSource, stack: AsyncExitStack) -> None:
        """Open the files of the job until the end of ``stack``.  Raises OSError."""
        if job.masks is not None:
            self._masks = stack.enter_context(job.masks.open("w"))
        self._tracks = stack.enter_context(TracksFile(job.tracks))
        if job.motion is not None and job.motion_options is not None:
            self._motion = stack.enter_context(MotionLog(job.motion, job.source, job.motion_options))
        if job.output is not None:
            self._source = source
            self._writer = VideoWriter(job.output, frames_per_second=source.frames_per_second)
            self._overlay = await stack.enter_async_context(OverlayThread(self._writer))

    def sent(self, sequence: int, frame: LiveFrame) -> None:
        """Keep a sent frame for the overlay."""
        if self._writer is not None and self._source is not None:
            self._frames[sequence] = frame
            self._writer.pixel_aspect = self._source.pixel_aspect  # known since the first frame was read

    async def received(self, result: LiveResult) -> None:
        """Write a result, and draw it on the overlay's thread.  Raises OSError."""
        if self._masks is not None:
            line = (
                {"sequence": result.sequence}
                | ({"gated": True} if result.gated else {})
                | frame_json(result.frame)
            )
            self._masks.write(json.dumps(line) + "\n")
            self._masks.flush()
        if result.points is not None and not result.gated:
            self._tracks.write(result.points)
        if result.lost_points:
            lost = ", ".join(map(str, result.lost_points[:8]))
            warn(f"{len(result.lost_points)} points are lost: {lost}")
        for window in result.motion_windows:
            for boundary in window.boundaries:
                say(boundary_text(boundary))
            if self._motion is not None:
                self._motion.write(window)
        if self._overlay is not None:
            frame = self._frames.pop(result.sequence)
            if self._first is None:
                self._first = frame.time
            time = None if frame.time is None or self._first is None else frame.time - self._first
            objects = result.frame.objects
            labels = concept_labels(objects, self._titles)
            points = None
            if result.points is not None:
                points = partial(self._drawing.draw, points=result.points.points)
            await self._overlay.submit(lambda: frame.pixels, rle_masks(objects), time, labels, points)
            for sequence in [s for s in self._frames if s < result.sequence]:
                del self._frames[sequence]
