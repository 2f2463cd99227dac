"""Motions of layers that meet: one passes behind another, two look-alikes cross, one covers another.

Times are frames.  They meet near the middle of the clip, so that frames before and after show the objects.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tools.train_micro.scenes.render import Layer, Motion, Pose

Path = NDArray[np.float64]  # [T, 2]: the centre of an object in each frame, in sides of the canvas
Place = Callable[[float], NDArray[np.float64]]  # maps a time to a centre

# Distance between the edges of both layers at the start of the clip, in sides of the canvas.
MARGIN = (0.0, 0.1)


def pass_behind(target: Layer, wall: Layer, random: np.random.Generator, frames: int) -> tuple[Layer, Layer]:
    """Move the target behind the wall, and out again on the other side or on the same side.

    Returns both layers with new positions; sizes and rotations stay.
    """
    size, extent = target.motion(0.0).size, wall.motion(0.0).size
    centre = random.uniform(0.4, 0.6, 2)
    heading = random.uniform(0, 2 * np.pi)
    direction = np.array([np.cos(heading), np.sin(heading)])
    # Two squares touch at this distance of their centres; it is longest along a diagonal.
    reach = (extent + size) / 2 / np.abs(direction).max() + random.uniform(*MARGIN)
    aside = random.normal(0, 0.1 * extent) * direction[::-1] * (1, -1)
    returns = random.random() < 0.25
    end = random.uniform(0.85, 1.0)  # part of the way that the target has gone at the end of the clip
    drift = random.normal(0, 0.1, 2) if random.random() < 0.3 else np.zeros(2)

    def of_target(time: float) -> NDArray[np.float64]:
        progress = 2 * end * time / frames - 1
        along = -abs(progress) if returns else progress
        return np.asarray(centre + aside + reach * along * direction)

    def of_wall(time: float) -> NDArray[np.float64]:
        return np.asarray(centre + drift * (time / frames - 0.5))

    return replace(target, motion=_along(target, of_target)), replace(wall, motion=_along(wall, of_wall))


def cross(first: Layer, second: Layer, random: np.random.Generator, frames: int) -> tuple[Layer, Layer]:
    """Move two objects past each other, the second in front of the first; some turn back when they meet."""
    size = (first.motion(0.0).size + second.motion(0.0).size) / 2
    centre = random.uniform(0.4, 0.6, 2)
    heading = random.uniform(0, 2 * np.pi)
    direction = np.array([np.cos(heading), np.sin(heading)])
    across = np.array([-direction[1], direction[0]])
    apart = random.uniform(0, 0.6) * size
    reach = min(0.55 * size + random.uniform(*MARGIN), 0.5)
    meeting = random.uniform(0.35, 0.65)
    bounces = random.random() < 0.2

    def place_of(side: float) -> Place:
        def place(time: float) -> NDArray[np.float64]:
            progress = (time / frames - meeting) / max(meeting, 1 - meeting)
            along = -abs(progress) if bounces else progress
            return np.asarray(centre + side * (reach * along * direction + apart / 2 * across))

        return place

    return (
        replace(first, motion=_along(first, place_of(1.0))),
        replace(second, motion=_along(second, place_of(-1.0))),
    )


def cover(wall: Layer, places: Path, random: np.random.Generator) -> Layer:
    """Move the wall over an object in the middle of the clip, along with it, and off again.

    ``places`` is the path of the object.
    """
    frames = len(places)
    begin = max(random.uniform(0.15, 0.45) * frames, 1.0)
    end = begin + random.uniform(0.2, 0.4) * frames
    heading, speed = random.uniform(0, 2 * np.pi), random.uniform(0.15, 0.6)
    direction = np.array([np.cos(heading), np.sin(heading)])
    turns = random.random() < 0.5  # slides off where it came from

    def place(time: float) -> NDArray[np.float64]:
        before, after = max(begin - time, 0.0), max(time - end, 0.0)
        way = before + after if turns else after - before
        return np.asarray(places[min(int(time), frames - 1)] + way * speed * direction)

    return replace(wall, motion=_along(wall, place))


def path_of_object(layer: Layer, label: int, frames: int) -> tuple[Path, float]:
    """The centre of an object of a filmed background in each frame, and the longest side of its box.

    Both are in sides of the canvas.  Where a frame does not show the object, the last place holds.
    """
    places, longest = np.zeros((frames, 2)), 0.0
    last = np.array([0.5, 0.5])
    for time in range(frames):
        mask = layer.at(float(time))[1][label]
        rows, columns = np.nonzero(mask)
        if len(rows):
            corners = np.array([[columns.min(), columns.max()], [rows.min(), rows.max()], [1, 1]])
            low, high = (layer.motion(float(time)).matrix(mask.shape[0], 1) @ corners)[:2].T + 0.5
            last = (low + high) / 2
            longest = max(longest, float(np.abs(high - low).max()))
        places[time] = last
    return places, longest


def _along(layer: Layer, place: Place) -> Motion:
    """The motion of a layer with its centre at ``place``."""
    motion = layer.motion

    def pose(time: float) -> Pose:
        x, y = place(time)
        return replace(motion(time), x=float(x), y=float(y))

    return pose
