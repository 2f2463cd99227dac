"""Metrics of a mask against a true mask, and the click and the box that evaluations prompt with.

Source: Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation"
(2016), which DAVIS uses: J for regions, F for outlines.  Needs SciPy (the extra ``evaluate``).
"""

import dataclasses
import math

import numpy as np
from scipy import ndimage

from maskmesh.masks import BoolArray
from maskmesh.types import Box, Point

# Outlines match within this share of the image's diagonal.
OUTLINE_TOLERANCE = 0.008


def region_similarity(predicted: BoolArray, true: BoolArray) -> float:
    """J: intersection over union of [H, W] masks; 1 if both are empty."""
    union = int(np.count_nonzero(predicted | true))
    return int(np.count_nonzero(predicted & true)) / union if union else 1.0


def contour_accuracy(predicted: BoolArray, true: BoolArray) -> float:
    """F: harmonic mean of the shares of either outline that lie near the other one; [H, W] masks.

    1 if neither mask has an outline, 0 if only one of them has none.
    """
    outline, true_outline = _outline(predicted), _outline(true)
    if not outline.any() or not true_outline.any():
        return float(outline.any() == true_outline.any())
    reach = math.ceil(OUTLINE_TOLERANCE * math.hypot(*predicted.shape))
    precision = float(np.mean(_near(true_outline, reach)[outline]))
    recall = float(np.mean(_near(outline, reach)[true_outline]))
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def innermost_point(mask: BoolArray) -> Point:
    """The pixel of a mask [H, W] that is farthest from its outline.  Raises ValueError for an empty mask."""
    if not mask.any():
        raise ValueError("an empty mask has no innermost point")
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(np.argmax(depth)), mask.shape)
    return Point(float(x), float(y))


def corrective_click(predicted: BoolArray, true: BoolArray) -> Point:
    """The click of a user who corrects a mask [H, W]: inside its largest wrong region.

    It is the pixel that is farthest from what is right: positive where the mask misses the object, negative
    where it goes beyond.  A mask without errors gets another positive click.  ``true`` is not empty.

    Source: Sofiiuk et al., "Reviving Iterative Training with Mask Guidance for Interactive Segmentation"
    (2022).
    """
    missing, excess = true & ~predicted, predicted & ~true
    depths = [
        float(ndimage.distance_transform_edt(np.pad(wrong, 1)).max()) if wrong.any() else 0.0
        for wrong in (missing, excess)
    ]
    if not any(depths):
        return innermost_point(true)
    if depths[0] >= depths[1]:
        return innermost_point(missing)
    return dataclasses.replace(innermost_point(excess), positive=False)


def bounding_box(mask: BoolArray) -> Box:
    """The box around a mask [H, W], from its first pixel to one past its last.

    Raises ValueError for an empty mask.
    """
    if not mask.any():
        raise ValueError("an empty mask has no box")
    rows, columns = np.nonzero(mask)
    return Box(float(columns.min()), float(rows.min()), float(columns.max()) + 1.0, float(rows.max()) + 1.0)


def _outline(mask: BoolArray) -> BoolArray:
    """Pixels that differ from the next one to the right, below, or diagonally below."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    here = padded[:-1, :-1]
    outline: BoolArray = (here ^ padded[:-1, 1:]) | (here ^ padded[1:, :-1]) | (here ^ padded[1:, 1:])
    return outline


def _near(outline: BoolArray, reach: int) -> BoolArray:
    """Pixels at most ``reach`` from an outline."""
    near: BoolArray = ndimage.distance_transform_edt(~outline) <= reach
    return near
