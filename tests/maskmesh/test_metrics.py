"""Metrics compared with values computed by hand."""

import numpy as np
import pytest

from maskmesh import Box, Point
from maskmesh.evaluation.mask_metrics import (
    bounding_box,
    contour_accuracy,
    innermost_point,
    region_similarity,
)
from maskmesh.masks import BoolArray


def square(top: int, left: int, side: int = 20, size: int = 100) -> BoolArray:
    mask = np.zeros((size, size), dtype=np.bool_)
    mask[top : top + side, left : left + side] = True
    return mask


EMPTY = np.zeros((100, 100), dtype=np.bool_)


def test_region_similarity() -> None:
    assert region_similarity(square(10, 10), square(10, 10)) == 1
    assert region_similarity(square(10, 10), square(10, 20)) == pytest.approx(200 / 600)
    assert region_similarity(square(10, 10), EMPTY) == 0
    assert region_similarity(EMPTY, EMPTY) == 1


def test_contour_accuracy() -> None:
    assert contour_accuracy(square(10, 10), square(10, 10)) == 1
    assert contour_accuracy(square(10, 10), EMPTY) == 0
    assert contour_accuracy(EMPTY, EMPTY) == 1
    # In a mask of 100 x 100 pixels the tolerance of a contour match is two pixels.
    assert contour_accuracy(square(10, 10), square(12, 10)) == 1
    assert contour_accuracy(square(10, 10), square(60, 60)) == 0
    # Shifted by half the side: the horizontal edges coincide for half their length.
    half = contour_accuracy(square(10, 10), square(10, 20))
    assert 0.2 < half < 0.5


def test_contour_accuracy_is_symmetric() -> None:
    """Two sides of the small square lie on the outline of the large square."""
    whole, quarter = square(10, 10, 60), square(10, 10, 30)
    found, missed = contour_accuracy(quarter, whole), contour_accuracy(whole, quarter)
    assert found == pytest.approx(missed)
    assert 0.3 < found < 0.6


def test_contour_tolerates_a_one_pixel_larger_outline() -> None:
    rows, columns = np.mgrid[:200, :300]
    disc = (rows - 100) ** 2 + (columns - 150) ** 2 < 60**2
    larger = (rows - 100) ** 2 + (columns - 150) ** 2 < 61**2
    assert contour_accuracy(larger, disc) == 1
    assert region_similarity(larger, disc) < 1


def test_innermost_point_and_box() -> None:
    mask = square(10, 30, 21)
    mask[10:12, 50:99] = True
    assert innermost_point(mask) == Point(40, 20)
    assert bounding_box(mask) == Box(30, 10, 99, 31)
    at_the_border = np.zeros((9, 9), dtype=np.bool_)
    at_the_border[:3] = True
    assert innermost_point(at_the_border).y == 1


@pytest.mark.parametrize("measure", [innermost_point, bounding_box])
def test_empty_mask_is_an_error(measure: object) -> None:
    assert callable(measure)
    with pytest.raises(ValueError, match="empty"):
        measure(EMPTY)
