"""Content for what no frame has shown."""

from abc import ABC, abstractmethod

import cv2
import numpy as np

from maskmesh.masks import BoolArray, ByteArray

# Neighbours are read at a size of at most so many pixels a side: the content is a guess at any size.
MAX_SIDE = 256

# Known pixels around the part that is filled, in pixels of the frame.
MARGIN = 16

# The colour of a frame of which nothing is known.
GREY = 128


class Filler(ABC):
    """Fills parts of a frame.  Runs on the threads that erase."""

    @abstractmethod
    def fill(self, pixels: ByteArray, unknown: BoolArray) -> ByteArray:
        """A frame [H, W, 3] with the pixels of ``unknown``, [H, W], filled in; at least one is unknown."""


class NeighbourFiller(Filler):
    """Fills from the edge inwards.

    Source: Telea, "An Image Inpainting Technique Based on the Fast Marching Method", 2004, by OpenCV.
    """

    def fill(self, pixels: ByteArray, unknown: BoolArray) -> ByteArray:
        rows, columns = box_around(unknown, MARGIN)
        hole = unknown[rows, columns]
        small, small_hole = known_means(pixels[rows, columns], hole, MAX_SIDE)
        filled = cv2.inpaint(small, small_hole.astype(np.uint8), 3, cv2.INPAINT_TELEA)
        large = cv2.resize(filled, hole.shape[::-1], interpolation=cv2.INTER_LINEAR)
        out = pixels.copy()
        out[rows, columns][hole] = large[hole]
        return out


def known_means(
    pixels: ByteArray, unknown: BoolArray, max_side: int | tuple[int, int]
) -> tuple[ByteArray, BoolArray]:
    """A picture at a smaller size, made of its known pixels only, and which pixels of it are unknown.

    pixels: [H, W, 3]; unknown: [H, W].  ``max_side`` is the longest side, or the exact width and height.
    """
    height, width = unknown.shape
    if isinstance(max_side, int):
        scale = min(max_side / max(height, width), 1.0)
        size = max(round(width * scale), 1), max(round(height * scale), 1)
    else:
        size = max_side
    known = np.logical_not(unknown).astype(np.float32)
    sums = cv2.resize(pixels * known[..., None], size, interpolation=cv2.INTER_AREA)
    share = cv2.resize(known, size, interpolation=cv2.INTER_AREA)
    means = np.where(share[..., None] > 0, sums / np.maximum(share, 1e-6)[..., None], GREY)
    return means.clip(0, 255).astype(np.uint8), share == 0


def box_around(mask: BoolArray, margin: int) -> tuple[slice, slice]:
    """Rows and columns of the box around the true pixels of a mask [H, W], with a margin."""
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    return (
        slice(max(int(rows[0]) - margin, 0), int(rows[-1]) + margin + 1),
        slice(max(int(columns[0]) - margin, 0), int(columns[-1]) + margin + 1),
    )
