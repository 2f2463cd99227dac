"""Content for what no frame has shown."""

from abc import ABC, abstractmethod

import cv2
import numpy as np

from maskmesh.masks import BoolArray, ByteArray

# Neighbours are read at a size of at most so many pixels a side: the content is a guess at any size.
MAX_SIDE = 256

# Known pixels around the part that is filled, in pixels of the frame.
MARGIN = 16


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
        part, hole = pixels[rows, columns], unknown[rows, columns]
        height, width = hole.shape
        scale = min(MAX_SIDE / max(height, width), 1.0)
        size = max(round(width * scale), 1), max(round(height * scale), 1)
        small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
        small_hole = cv2.resize(hole.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
        filled = cv2.inpaint(small, small_hole.astype(np.uint8), 3, cv2.INPAINT_TELEA)
        large = cv2.resize(filled, (width, height), interpolation=cv2.INTER_LINEAR)
        out = pixels.copy()
        out[rows, columns][hole] = large[hole]
        return out


def box_around(mask: BoolArray, margin: int) -> tuple[slice, slice]:
    """Rows and columns of the box around the true pixels of a mask [H, W], with a margin."""
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    return (
        slice(max(int(rows[0]) - margin, 0), int(rows[-1]) + margin + 1),
        slice(max(int(columns[0]) - margin, 0), int(columns[-1]) + margin + 1),
    )
