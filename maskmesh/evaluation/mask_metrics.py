"""How well a mask fits the truth, by the field's definitions, and the clicks that they start from.

Source: Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation"
(2016), which DAVIS uses: J for regions, F for outlines.  Needs SciPy (the extra ``evaluate``).
"""

import math

import numpy as np
from scipy import ndimage

from maskmesh.masks import BoolArray
from maskmesh.types import Box, Point

# Outlines match within this share of the image's diagonal.
OUTLINE_TOLERANCE = 0.008


def region_similarity(found: BoolArray, true: BoolArray) -> float:
    """J: intersection over union of [H, W] masks; 1 where both are empty."""
    union = int(np.count_nonzero(found | true))
    return int(np.count_nonzero(found & true)) / union if union else 1.0


def contour_accuracy(found: BoolArray, true: BoolArray) -> float:
    """F: harmonic mean of how much of either outline the other one runs along; [H, W] masks.

    1 where both masks are empty, 0 where one of them is.
    """
    ours, theirs = _outline(found), _outline(true)
    if not ours.any() or not theirs.any():
        return float(ours.any() == theirs.any())
    reach = math.ceil(OUTLINE_TOLERANCE * math.hypot(*found.shape))
    precision = float(np.mean(_near(theirs, reach)[ours]))
    recall = float(np.mean(_near(ours, reach)[theirs]))
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def innermost_point(mask: BoolArray) -> Point:
    """The pixel of a mask [H, W] that is farthest from its outline.  Raises ValueError for an empty mask."""
    if not mask.any():
        raise ValueError("an empty mask has no innermost point")
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(np.argmax(depth)), mask.shape)
    return Point(float(x), float(y))


def bounding_box(mask: BoolArray) -> Box:
    """The box around a mask [H, W], from the first to behind the last pixel.

    Raises ValueError for an empty mask.
    """
    if not mask.any():
        raise ValueError("an empty mask has no box")
    rows, columns = np.nonzero(mask)
    return Box(float(columns.min()), float(rows.min()), float(columns.max()) + 1.0, float(rows.max()) + 1.0)


def _outline(mask: BoolArray) -> BoolArray:
    """Pixels that differ from the next one to the right, below, or across."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    here = padded[:-1, :-1]
    outline: BoolArray = (here ^ padded[:-1, 1:]) | (here ^ padded[1:, :-1]) | (here ^ padded[1:, 1:])
    return outline


def _near(outline: BoolArray, reach: int) -> BoolArray:
    """Pixels within a disc of some pixel of an outline."""
    near: BoolArray = ndimage.distance_transform_edt(~outline) <= reach
    return near
