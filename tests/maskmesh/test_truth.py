"""Comparison of predicted masks of a clip with ground truth."""

import json
from pathlib import Path

import numpy as np
import pytest

from maskmesh import FrameMasks, ObjectMask, RleMask
from maskmesh.cli.segment.truth import compare, fit, read_truth


def rle(columns: int) -> RleMask:
    mask = np.zeros((8, 10), dtype=np.bool_)
    mask[:, :columns] = True
    return RleMask.encode(mask)


def found(index: int, columns: int, score: float) -> FrameMasks:
    return FrameMasks(index, {1: ObjectMask(1, rle(columns), 0.9, score)}, 10, 8, False, "trace")


TRUTH = {0: {1: rle(4)}, 1: {1: rle(4)}, 2: {1: rle(0)}, 3: {}}


def test_scores_of_visible_and_absent_objects() -> None:
    frames = [found(0, 4, 5.0), found(1, 2, 5.0), found(2, 0, -3.0), found(3, 0, 1.0)]
    fitted = fit(frames, TRUTH)[1]
    assert fitted.ious == [1.0, 0.5]
    assert (fitted.right, fitted.out_of_sight) == (1, 2)
    (line,) = compare(frames, TRUTH)
    assert line == (
        "object 1: mean IoU 0.750 on the 2 frames that show it; reported out of sight on 1 of 2 that do not"
    )


def test_frame_missing_from_truth_is_an_error() -> None:
    with pytest.raises(ValueError, match="no frame 4"):
        fit([found(4, 4, 1.0)], TRUTH)


def test_mask_size_mismatch_is_an_error() -> None:
    other = {0: {1: RleMask.encode(np.ones((4, 4), dtype=np.bool_))}}
    with pytest.raises(ValueError, match="4 x 4"):
        fit([found(0, 4, 1.0)], other)


def test_written_masks_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "masks.json"
    objects = [{"obj_id": 1, "segmentation": rle(4).to_coco()}]
    path.write_text(json.dumps({"frames": [{"frame_index": 7, "objects": objects}]}))
    assert read_truth(path) == {7: {1: rle(4)}}


@pytest.mark.parametrize("content", ["{", "{}", "[1]", '{"frames": [{"frame_index": 0}]}'])
def test_invalid_truth_files_are_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "masks.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"masks\.json is not a file of masks"):
        read_truth(path)
