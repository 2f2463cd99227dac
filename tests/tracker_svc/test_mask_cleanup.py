"""Small holes and specks of masks."""

import numpy as np
import torch

from maskmesh.masks import BoolArray
from tracker_svc.compute.grid_masks import bounding_boxes, non_maximum_suppression
from tracker_svc.compute.mask_cleanup import clean


def mask(*rows: str) -> BoolArray:
    return np.array([[character == "#" for character in row] for row in rows])


MASK = mask(
    "########...#",
    "#.####.#....",
    "#..###.#...#",
    "########....",
    "########.#..",
)


def test_small_holes_are_filled() -> None:
    filled = clean(MASK, fill_holes_area=2, remove_specks_area=0)
    assert filled[1, 6]
    assert filled[2, 6]
    assert not filled[1, 1], "this hole has three pixels"
    assert clean(MASK, fill_holes_area=3, remove_specks_area=0)[:, :8].all()
    assert not clean(MASK, fill_holes_area=1000, remove_specks_area=0)[2, 9], "it reaches the border"


def test_specks_are_removed_but_the_largest_part_stays() -> None:
    cleaned = clean(MASK, fill_holes_area=0, remove_specks_area=1)
    assert not cleaned[:, 8:].any()
    assert np.array_equal(cleaned[:, :8], MASK[:, :8])
    assert np.array_equal(clean(MASK, fill_holes_area=0, remove_specks_area=1000), cleaned)
    empty = np.zeros((3, 3), dtype=bool)
    assert not clean(empty, fill_holes_area=5, remove_specks_area=5).any()


def test_boxes_of_masks() -> None:
    masks = torch.zeros(2, 6, 8, dtype=torch.bool)
    masks[0, 2:4, 1:5] = True
    masks[1, 5, 7] = True
    assert bounding_boxes(masks).tolist() == [[1, 2, 5, 4], [7, 5, 8, 6]]


def test_of_overlapping_boxes_the_best_stays() -> None:
    boxes = torch.tensor([[0, 0, 10, 10], [1, 0, 10, 10], [20, 20, 30, 30], [0, 0, 5, 10]]).float()
    scores = torch.tensor([0.7, 0.9, 0.8, 0.6])
    assert non_maximum_suppression(boxes, scores, 0.7).tolist() == [1, 2, 3]
    assert non_maximum_suppression(boxes, scores, 0.3).tolist() == [1, 2]
    assert non_maximum_suppression(boxes[:0], scores[:0], 0.7).tolist() == []
