"""Conversion of frame states to masks, in every format and mask space, with bounding boxes."""

import numpy as np
import pytest
import torch

from maskmesh import (
    Box,
    MaskFormat,
    MaskOptions,
    MaskSpace,
    ObjectMask,
    Point,
    Prompt,
)
from tests.tracker_svc.video import Video
from tracker_svc.compute.mask_output import object_masks
from tracker_svc.compute.tracker import Tracker
from tracker_svc.memory.frame_state import FrameState


def test_non_overlapping_masks() -> None:
    logits = torch.tensor([[[1.0, 3.0, -1.0, 2.0]], [[2.0, 1.0, -2.0, 2.0]]])
    states = [FrameState(one[None], 0.5, 1.0, None) for one in logits]
    size = {"width": 4, "height": 1}
    options = MaskOptions(space=MaskSpace.MODEL, non_overlapping=True)
    exclusive = [m.mask.decode()[0].tolist() for m in object_masks([1, 2], states, options, **size)]  # type: ignore[union-attr]
    assert exclusive == [[False, True, False, True], [True, False, False, False]]
    options = MaskOptions(MaskFormat.LOW_RES_LOGITS, non_overlapping=True)
    values = [m.mask.values[0].tolist() for m in object_masks([1, 2], states, options, **size)]  # type: ignore[union-attr]
    assert values == [[-10.0, 3.0, -1.0, 2.0], [2.0, -10.0, -10.0, -10.0]]


def test_filled_holes_do_not_overlap() -> None:
    """An object inside another one is a hole of it; what lies around it inside the hole has one owner."""
    outer, inner = torch.full((9, 9), -5.0), torch.full((9, 9), -5.0)
    outer[1:8, 1:8] = 1.0
    outer[2:7, 2:7] = -5.0
    inner[3:6, 3:6] = 1.0
    inner[4, 4] = -5.0  # a hole of the inner object, and so of the outer one
    states = [FrameState(one[None], 0.5, 1.0, None) for one in (outer, inner)]
    for order in (states, states[::-1]):
        options = MaskOptions(space=MaskSpace.MODEL, non_overlapping=True, fill_holes_area=30)
        masks = object_masks([1, 2], order, options, width=9, height=9)
        first, second = (m.mask.decode() for m in masks)  # type: ignore[union-attr]
        assert not (first & second).any()
        assert (first | second)[1:8, 1:8].all()
        ring = (first if order is states else second)[3:6, 3:6]
        assert not ring[0].any(), "the inner object keeps its own pixels"


def test_all_mask_formats_agree(tracker: Tracker) -> None:
    state = Video(tracker).prompt(1, 0, Prompt([Point(50, 60)]))
    size = {"width": 320, "height": 200}

    def shown(options: MaskOptions) -> ObjectMask:
        return object_masks([1], [state], options, **size)[0]

    rle = shown(MaskOptions())
    expected = rle.mask.decode()  # type: ignore[union-attr]
    assert expected.shape == (200, 320)
    small = (state.low_res_masks[0] > 0).numpy()
    for form in (MaskFormat.COCO_RLE, MaskFormat.PNG, MaskFormat.PACKED_BITS):
        np.testing.assert_array_equal(shown(MaskOptions(form)).mask.decode(), expected)  # type: ignore[union-attr]
        low = shown(MaskOptions(form, MaskSpace.MODEL))
        np.testing.assert_array_equal(low.mask.decode(), small)  # type: ignore[union-attr]
        assert low.predicted_iou == rle.predicted_iou
        assert low.box is not None
    rows, columns = np.nonzero(expected)
    assert rle.box == Box(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    # Boxes are in pixels of the frame in every mask space; a low-resolution pixel is 5 pixels wide.
    assert low.box is not None
    assert rle.box is not None
    assert low.box.x0 == pytest.approx(rle.box.x0, abs=5)
    assert low.box.y1 == pytest.approx(rle.box.y1, abs=4)


def test_empty_mask_has_no_box() -> None:
    empty = FrameState(torch.full((1, 8, 8), -3.0), 0.5, -1.0, None)
    assert object_masks([1], [empty], MaskOptions(), width=40, height=30)[0].box is None
