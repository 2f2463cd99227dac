"""Make a short clip to try things on: two textured shapes that move over a textured ground.

    python tools/make_clip.py OUT.mp4 [--frames 90]

Nothing is random beyond a fixed seed, and no picture of anybody is in it.
"""

import argparse
import math
from pathlib import Path

import numpy as np

from maskmesh.media import video_writer
from maskmesh.types import BoolArray, ByteArray, FloatArray

WIDTH, HEIGHT, RATE = 640, 360, 30
DISC_RADIUS = 46
SQUARE_HALF = 38


def disc_centre(time: float) -> tuple[float, float]:
    """Where the disc is at a time from 0 to 1: from left to right, in waves."""
    return 90 + 460 * time, 180 + 70 * math.sin(2 * math.pi * time)


def square_centre(time: float) -> tuple[float, float]:
    """Where the square is at a time from 0 to 1: from the upper right to the lower left."""
    return 520 - 380 * time, 90 + 170 * time


def disc_mask(time: float) -> BoolArray:
    """The pixels of the disc."""
    x, y = disc_centre(time)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    inside: BoolArray = (columns - x) ** 2 + (rows - y) ** 2 < DISC_RADIUS**2
    return inside


def square_mask(time: float) -> BoolArray:
    """The pixels of the square, which turns as it goes."""
    x, y = square_centre(time)
    angle = math.pi * time
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    across = (columns - x) * math.cos(angle) + (rows - y) * math.sin(angle)
    along = (rows - y) * math.cos(angle) - (columns - x) * math.sin(angle)
    inside: BoolArray = np.maximum(np.abs(across), np.abs(along)) < SQUARE_HALF
    return inside


def ground(seed: int) -> FloatArray:
    """Soft blotches: [HEIGHT, WIDTH, 3]."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    picture = np.full((HEIGHT, WIDTH, 3), 110, dtype=np.float32)
    for _ in range(40):
        x, y, size = random.uniform(0, WIDTH), random.uniform(0, HEIGHT), random.uniform(30, 110)
        blotch = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * size**2))
        picture += blotch[..., None] * random.uniform(-45, 45, 3)
    return picture


def draw(time: float, background: FloatArray) -> ByteArray:
    """One frame: [HEIGHT, WIDTH, 3], uint8, RGB; the disc passes in front of the square."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    picture = background.copy()
    checks = ((rows // 9 + columns // 9) % 2)[..., None]
    picture[square_mask(time)] = np.where(checks, (40, 90, 190), (70, 140, 230))[square_mask(time)]
    stripes = (((columns + 2 * rows) // 8) % 2)[..., None]
    picture[disc_mask(time)] = np.where(stripes, (215, 70, 40), (245, 150, 60))[disc_mask(time)]
    return picture.clip(0, 255).astype(np.uint8)


def make_clip(path: Path, frames: int = 90, *, seed: int = 7) -> None:
    """Write the clip; the seed is that of the ground."""
    background = ground(seed)
    with video_writer(path, RATE) as write:
        for index in range(frames):
            write(draw(index / max(frames - 1, 1), background))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    parser.add_argument("--frames", type=int, default=90)
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    make_clip(arguments.out, arguments.frames)
