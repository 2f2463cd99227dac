"""Holes in clips, behind which the truth is known: moving shapes of real masks, and boxes that stay."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image as PillowImage

from maskmesh.masks import BoolArray, ByteArray

# A moving shape covers this share of the frame on average, and moves by this share of its width in each
# frame.
SHAPE_AREA = 0.045
SHAPE_SPEED = 0.05

# The side of a box as a share of the frame's shorter side, and the place of its corner.
BOX_SIDE = 0.27
BOX_X, BOX_Y = 0.075, 0.09


def moving_shapes(masks: Sequence[BoolArray], height: int, width: int, count: int) -> list[BoolArray]:
    """Holes of the shapes of masks, [H, W] each, on ``count`` frames of [height, width].

    The shapes have one scale, move across the frame, and turn around near its edges.  After the last one they
    come again in reverse.
    """
    shapes = [mask for mask in masks if mask.any()]
    scale = math.sqrt(SHAPE_AREA * height * width / float(np.mean([shape.sum() for shape in shapes])))
    x, y, step_x, step_y = 0.3 * width, 0.4 * height, SHAPE_SPEED * width, SHAPE_SPEED * width / 2
    holes = []
    for index in range(count):
        turn = index % max(2 * len(shapes) - 2, 1)
        shape = shapes[turn if turn < len(shapes) else 2 * len(shapes) - 2 - turn]
        holes.append(_placed(_scaled(shape, scale), round(x), round(y), height, width))
        x, y = x + step_x, y + step_y
        step_x = -step_x if not 0.15 * width < x < 0.85 * width else step_x
        step_y = -step_y if not 0.2 * height < y < 0.8 * height else step_y
    return holes


def stationary_boxes(height: int, width: int, count: int) -> list[BoolArray]:
    """A box near the upper left corner, on each of ``count`` frames."""
    side = round(BOX_SIDE * min(height, width))
    x, y = round(BOX_X * width), round(BOX_Y * height)
    hole = np.zeros((height, width), np.bool_)
    hole[y : y + side, x : x + side] = True
    return [hole] * count


def painted(pixels: ByteArray, hole: BoolArray) -> ByteArray:
    """A frame [H, W, 3] with a grey hole, so that nothing of the truth is left in it."""
    return np.where(hole[..., None], np.uint8(128), pixels)


def _scaled(shape: BoolArray, scale: float) -> BoolArray:
    rows, columns = np.nonzero(shape.any(axis=1))[0], np.nonzero(shape.any(axis=0))[0]
    part = PillowImage.fromarray(shape[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    size = max(round(part.width * scale), 1), max(round(part.height * scale), 1)
    return np.asarray(part.resize(size, PillowImage.Resampling.NEAREST), np.bool_)


def _placed(shape: BoolArray, x: int, y: int, height: int, width: int) -> BoolArray:
    """A frame with a shape whose middle is at x, y; what lies outside is cut off."""
    hole = np.zeros((height, width), np.bool_)
    top, left = y - shape.shape[0] // 2, x - shape.shape[1] // 2
    rows, columns = slice(max(top, 0), top + shape.shape[0]), slice(max(left, 0), left + shape.shape[1])
    target = hole[rows, columns]
    skip_y, skip_x = max(-top, 0), max(-left, 0)
    target |= shape[skip_y : skip_y + target.shape[0], skip_x : skip_x + target.shape[1]]
    return hole
