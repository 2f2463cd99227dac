"""Optical flow of the visible parts of two frames, completed where objects are erased.

Source: Kroeger et al., "Fast Optical Flow using Dense Inverse Search", 2016, by OpenCV.
"""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from gateway.erase.push_pull import FloatArray, push_pull
from maskmesh.masks import BoolArray, ByteArray

# Flow so near to an erased part is wrong, because it compares patches that reach into it: pixels of the flow.
MARGIN = 8

# OpenCV's flow reads outside of smaller images.
MIN_SIDE = 32

# Frames that differ by more than so many levels after the flow, in more than half of their pixels, are of
# different scenes.
SAME_LEVELS = 40
MIN_SAME = 0.5


class FlowImage(NamedTuple):
    """A frame in the size of the flow: [h, w, 3] and [h, w] of uint8, [h, w] of bool."""

    colours: ByteArray
    grey: ByteArray
    hole: BoolArray


@dataclass(frozen=True, slots=True)
class Flow:
    """Where the pixels of one frame are in another one.

    ``vectors`` are [h, w, 2] in pixels of the flow, x before y.  ``difference``, [h, w, 3], is what the
    frame is brighter than the other one, completed where it is not known.  ``is_cut`` is true if the frames
    are of different scenes.
    """

    vectors: FloatArray
    difference: FloatArray
    is_cut: bool


class FlowEstimator:
    """Flow at a bounded size.  Not safe for concurrent use."""

    def __init__(self, max_side: int, *, fast: bool) -> None:
        self._max_side = max_side
        preset = cv2.DISOPTICAL_FLOW_PRESET_FAST if fast else cv2.DISOPTICAL_FLOW_PRESET_MEDIUM
        self._dis = cv2.DISOpticalFlow.create(preset)

    def image(self, pixels: ByteArray, hole: BoolArray) -> FlowImage:
        """A frame in the size of the flow.  pixels: [H, W, 3]; hole: [H, W]."""
        height, width = hole.shape
        scale = min(self._max_side / max(height, width), 1.0)
        size = max(round(width * scale), MIN_SIDE), max(round(height * scale), MIN_SIDE)
        colours = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        # A pixel that is erased in part is erased.
        share = cv2.resize(hole.view(np.uint8) * np.uint8(255), size, interpolation=cv2.INTER_AREA)
        small_hole = share > 0
        grey = cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY)
        if small_hole.any():
            filled = push_pull(grey.astype(np.float32), np.logical_not(small_hole).astype(np.float32))
            grey = np.where(small_hole, filled.clip(0, 255), grey).astype(np.uint8)
        return FlowImage(np.asarray(colours, np.uint8), np.asarray(grey, np.uint8), small_hole)

    def between(self, source: FlowImage, target: FlowImage) -> Flow:
        """The flow from one frame to another one."""
        empty = np.zeros((*source.grey.shape, 2), np.float32)
        vectors = np.asarray(self._dis.calc(source.grey, target.grey, empty), np.float32)
        is_finite: BoolArray = np.asarray(np.isfinite(vectors).all(axis=-1))
        vectors = np.where(is_finite[..., None], vectors, 0).astype(np.float32)
        near = _grown(source.hole)
        columns, rows = _places(vectors)
        reaches = cv2.remap(_grown(target.hole), columns, rows, cv2.INTER_NEAREST)
        known = is_finite & np.logical_not(np.logical_or(near, reaches))
        warped = cv2.remap(target.colours, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        difference = source.colours.astype(np.float32) - warped
        same = known & (np.abs(difference).max(axis=-1) < SAME_LEVELS)
        is_cut = bool(np.count_nonzero(same) < MIN_SAME * np.count_nonzero(known))
        return Flow(
            push_pull(vectors, known.astype(np.float32)),
            push_pull(difference, same.astype(np.float32)),
            is_cut,
        )


def _grown(hole: BoolArray) -> ByteArray:
    kernel = np.ones((2 * MARGIN + 1, 2 * MARGIN + 1), np.uint8)
    return np.asarray(cv2.dilate(hole.view(np.uint8), kernel), np.uint8)


def _places(vectors: NDArray[np.float32]) -> tuple[FloatArray, FloatArray]:
    """Columns and rows to which vectors point, each [h, w]."""
    height, width = vectors.shape[:2]
    columns = vectors[..., 0] + np.arange(width)
    rows = vectors[..., 1] + np.arange(height)[:, None]
    return columns.astype(np.float32), rows.astype(np.float32)
