"""The points of a run as a file, and drawn on frames."""

import csv
from collections import defaultdict, deque
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw

from maskmesh.masks import ByteArray
from maskmesh.points import FramePoints, TrackedPoint

# Positions before the last one that an overlay shows.
TRAIL = 8


class TracksFile:
    """Tracks as CSV, one line for each point and frame.  A context manager."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: IO[str] | None = None
        self._writer: Any = None

    def __enter__(self) -> "TracksFile":
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


class PointDrawing:
    """Draws points on frames, with their last positions."""

    def __init__(self) -> None:
        self._trails: dict[int, deque[tuple[float, float]]] = defaultdict(lambda: deque(maxlen=TRAIL))

    def draw(self, pixels: ByteArray, points: Mapping[int, TrackedPoint]) -> ByteArray:
        """The next frame [H, W, 3] with its points."""
        picture = PillowImage.fromarray(pixels)
        draw = ImageDraw.Draw(picture)
        radius = max(1.5, min(picture.size) / 180)
        for gone in self._trails.keys() - points.keys():
            del self._trails[gone]
        for point_id, point in points.items():
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
