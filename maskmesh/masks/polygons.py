"""Masks as polygons whose lines run through the corners of pixels.

Without simplification the polygons of a mask are exact: filled by the even-odd rule, they give it again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ring: TypeAlias = NDArray[np.float32]
"""A closed line: [N, 2], x and y in pixels; the last point is joined to the first."""

Polygon: TypeAlias = Sequence[Ring]
"""An outer ring, and the rings of its holes."""

# Edges that are filled at once, which bounds the memory.
_EDGES_AT_ONCE = 1024

# Right, down, left, up: the directions of a step along pixel edges, in (x, y).
_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))


@dataclass(frozen=True, slots=True, eq=False)
class PolygonMask:
    """A binary mask of ``height`` x ``width`` pixels as polygons, none for an empty mask."""

    height: int
    width: int
    polygons: Sequence[Polygon] = field(repr=False)

    @classmethod
    def encode(cls, mask: NDArray[np.bool_], tolerance: float = 0.0) -> "PolygonMask":
        """mask: [height, width], bool.  Lines lie at most ``tolerance`` pixels from the mask's."""
        rings = [simplify(ring, tolerance) for ring in outlines(mask)]
        outer = [ring for ring in rings if signed_area(ring) > 0]
        polygons: list[list[Ring]] = [[ring] for ring in outer]
        for hole in (ring for ring in rings if signed_area(ring) < 0):
            around = [p for p in polygons if _is_inside(hole, p[0])]
            if around:  # simplification may move a hole out of its polygon
                min(around, key=lambda polygon: signed_area(polygon[0])).append(hole)
        height, width = mask.shape
        return cls(height, width, polygons)

    def decode(self) -> NDArray[np.bool_]:
        """Returns [height, width], bool: the pixels whose centres the polygons contain."""
        flips = np.zeros((self.height, self.width + 1), dtype=np.int32)
        rings = [ring for polygon in self.polygons for ring in polygon]
        if rings:
            starts = np.concatenate(rings).astype(np.float64)
            ends = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings]).astype(np.float64)
            for first in range(0, len(starts), _EDGES_AT_ONCE):
                _flip(flips, starts[first : first + _EDGES_AT_ONCE], ends[first : first + _EDGES_AT_ONCE])
        inside: NDArray[np.bool_] = (flips.cumsum(axis=1)[:, :-1] % 2).astype(bool)
        return inside


def outlines(mask: NDArray[np.bool_]) -> Iterator[Ring]:
    """The rings of a mask: outer ones clockwise on the screen, with a positive area, holes the other way.

    Pixels that touch at a corner only belong to separate rings.
    """
    padded = np.pad(mask, 1)
    here, above, left = padded[1:, 1:], padded[:-1, 1:], padded[1:, :-1]
    # Each edge has the mask at its right; a point may begin two edges.
    starts: dict[tuple[int, int], list[int]] = {}
    edges = (
        (0, here & ~above, (0, 0)),  # the upper edge of a pixel, to the right
        (1, left & ~here, (0, 0)),  # the right edge of the pixel at the left, downwards
        (2, above & ~here, (1, 0)),  # the lower edge of the pixel above, to the left
        (3, here & ~left, (0, 1)),  # the left edge of a pixel, upwards
    )
    for direction, found, (dx, dy) in edges:
        for y, x in np.argwhere(found).tolist():
            starts.setdefault((x + dx, y + dy), []).append(direction)
    while starts:
        start = next(iter(starts))
        direction = starts[start][0]
        first = direction
        points: list[tuple[int, int]] = []
        point = start
        while True:
            starts[point].remove(direction)
            if not starts[point]:
                del starts[point]
            dx, dy = _STEPS[direction]
            point = (point[0] + dx, point[1] + dy)
            # At a corner that two pixels share, the turn to the right stays with the same pixel.
            turns = (direction + 1) % 4, direction, (direction - 1) % 4
            choices = starts.get(point, ())
            following = next((turn for turn in turns if turn in choices), None)
            if following is None or (point == start and following == first):
                following = first
            if following != direction:
                points.append(point)
            direction = following
            if point == start and direction == first:
                break
        yield np.array(points, dtype=np.float32)


def signed_area(ring: Ring) -> float:
    """The area of a ring in pixels, positive for a clockwise ring on the screen."""
    x, y = ring[:, 0].astype(np.float64), ring[:, 1].astype(np.float64)
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def simplify(ring: Ring, tolerance: float) -> Ring:
    """Leave out points that lie within ``tolerance`` pixels of the line without them, but keep three.

    Source: Ramer, 1972; Douglas and Peucker, 1973.
    """
    if tolerance <= 0 or len(ring) <= 4:
        return ring
    far = int(np.argmax(((ring - ring[0]) ** 2).sum(axis=1)))
    closed = np.vstack((ring, ring[:1]))
    kept = np.zeros(len(closed), dtype=bool)
    kept[[0, far, len(ring)]] = True
    spans = [(0, far), (far, len(ring))]
    while spans:
        first, last = spans.pop()
        if last - first < 2:
            continue
        distances = _distances(closed[first + 1 : last], closed[first], closed[last])
        worst = int(distances.argmax())
        if distances[worst] > tolerance:
            middle = first + 1 + worst
            kept[middle] = True
            spans += [(first, middle), (middle, last)]
    found = ring[kept[:-1]]
    return found if len(found) >= 3 else ring


def _distances(points: Ring, start: NDArray[np.float32], end: NDArray[np.float32]) -> NDArray[np.float32]:
    """Distances of points to a line, or to a point if its ends are one."""
    along = end - start
    length = float(np.hypot(*along))
    if not length:
        distances: NDArray[np.float32] = np.hypot(points[:, 0] - start[0], points[:, 1] - start[1])
        return distances
    offsets = points - start
    found: NDArray[np.float32] = np.abs(along[0] * offsets[:, 1] - along[1] * offsets[:, 0]) / length
    return found


def _is_inside(ring: Ring, outer: Ring) -> bool:
    """Whether a ring lies in another one, by the middle of the pixel beside its first edge."""
    (x0, y0), (x1, y1) = ring[0].tolist(), ring[1].tolist()
    # The mask is at the right of every edge, so a point there is in the polygon around the hole.
    length = max(abs(x1 - x0) + abs(y1 - y0), 1e-6)
    x = (x0 + x1) / 2 - (y1 - y0) / length / 2
    y = (y0 + y1) / 2 + (x1 - x0) / length / 2
    ax, ay = outer[:, 0], outer[:, 1]
    bx, by = np.roll(ax, -1), np.roll(ay, -1)
    crosses = (ay > y) != (by > y)
    at = ax[crosses] + (y - ay[crosses]) * (bx - ax)[crosses] / (by - ay)[crosses]
    return bool(np.count_nonzero(at > x) % 2)


def _flip(flips: NDArray[np.int32], starts: NDArray[np.float64], ends: NDArray[np.float64]) -> None:
    """Note for each row the columns from which on edges change inside and outside.

    starts, ends: [N, 2], x and y.
    """
    height, width = flips.shape[0], flips.shape[1] - 1
    x0, y0 = starts.T
    slopes = np.divide(ends[:, 0] - x0, ends[:, 1] - y0, where=ends[:, 1] != y0, out=np.zeros_like(x0))
    # The rows whose centres each edge passes.
    first = np.clip(np.ceil(np.minimum(y0, ends[:, 1]) - 0.5), 0, height).astype(np.int64)
    last = np.clip(np.ceil(np.maximum(y0, ends[:, 1]) - 0.5), 0, height).astype(np.int64)
    counts = last - first
    edges = np.repeat(np.arange(len(counts)), counts)
    rows = np.arange(len(edges)) - np.repeat(counts.cumsum() - counts, counts) + first[edges]
    at = x0[edges] + (rows + 0.5 - y0[edges]) * slopes[edges]
    np.add.at(flips, (rows, np.clip(np.ceil(at - 0.5), 0, width).astype(np.int64)), 1)
