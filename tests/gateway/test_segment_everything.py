"""Parts of an image, and masks of several parts that repeat one another."""

import numpy as np
import pytest

from gateway.segment_everything import MIN_PART_PIXELS, _not_repeated, parts_of


@pytest.mark.parametrize(
    ("width", "height"), [(28, 28), (300, 20), (1000, 5), (1280, 720), (641, 333), (1, 1)]
)
def test_parts_lie_in_the_image_and_are_large_enough(width: int, height: int) -> None:
    whole, *parts = parts_of(width, height, 3)
    assert whole[2:] == (width, height)
    for part in parts:
        assert 0 <= part.x0 < part.x1 <= width
        assert 0 <= part.y0 < part.y1 <= height
        assert min(part.x1 - part.x0, part.y1 - part.y0) >= MIN_PART_PIXELS // 2


def test_parts_cover_the_image() -> None:
    seen = np.zeros((333, 641), dtype=int)
    for part in list(parts_of(641, 333, 2))[1:]:
        seen[part.y0 : part.y1, part.x0 : part.x1] += 1
    assert seen.min() >= 2  # by each layer


def test_the_first_of_overlapping_boxes_is_kept() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30], [0, 0, 10, 5]], dtype=float)
    assert _not_repeated(boxes, 0.7) == [0, 2, 3]
    assert _not_repeated(boxes, 0.4) == [0, 2]
    assert _not_repeated(np.zeros((0, 4)), 0.7) == []
