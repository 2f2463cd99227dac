"""Evaluation of erased holes and followed points: the measures, the holes, the drawn clips."""

import dataclasses

import numpy as np
import pytest

from maskmesh.evaluation.drawn_clips import DrawnClip, drawn_clips
from maskmesh.evaluation.holes import SHAPE_AREA, moving_shapes, painted, stationary_boxes
from maskmesh.evaluation.image_metrics import MAX_PSNR, filled_alone, hole_psnr, hole_ssim, warping_error
from maskmesh.evaluation.points import THRESHOLDS, score_points


@pytest.fixture(scope="module")
def clips() -> list[DrawnClip]:
    return drawn_clips(8)


def test_perfect_points_have_perfect_scores(clips: list[DrawnClip]) -> None:
    for clip in clips:
        scores = score_points(clip, clip.paths, clip.visible)
        assert dataclasses.astuple(scores)[1:] == (1, 1, 1)


def test_points_that_are_off_by_three_pixels_pass_the_larger_thresholds(clips: list[DrawnClip]) -> None:
    clip = clips[0]
    off = clip.paths + np.array([3 * 384 / 256, 0])  # 3 pixels of the square frame
    scores = score_points(clip, off, clip.visible)
    assert scores.position_accuracy == pytest.approx(sum(t > 3 for t in THRESHOLDS) / len(THRESHOLDS))
    # A point that is said to be visible and is not near counts as wrong and as missed.
    assert scores.average_jaccard == pytest.approx(3 / 5)
    nothing = score_points(clip, clip.paths, np.zeros_like(clip.visible))
    assert nothing.average_jaccard == 0
    assert nothing.position_accuracy == 1


def test_drawn_points_keep_their_colours(clips: list[DrawnClip]) -> None:
    """The paths are those of the pictures."""
    hidden = 0
    for clip in clips:
        x, y = np.floor(clip.paths).astype(int).transpose(2, 0, 1)
        inner = (x >= 0) & (x < 384) & (y >= 0) & (y < 288) & clip.visible
        start = clip.frames[0][y[:, 0], x[:, 0]].astype(int)
        for index, frame in enumerate(clip.frames):
            seen = inner[:, index]
            difference = np.abs(frame[y[seen, index], x[seen, index]].astype(int) - start[seen])
            assert np.median(difference) < 6
        hidden += (~clip.visible).sum()
    assert hidden > 20


def test_moving_shapes_have_the_area_and_move() -> None:
    mask = np.zeros((60, 80), np.bool_)
    mask[20:40, 30:50] = True
    holes = moving_shapes([mask, np.zeros_like(mask), mask.T.copy()[:60, :]], 200, 300, 20)
    areas = [hole.mean() for hole in holes]
    assert np.mean(areas) == pytest.approx(SHAPE_AREA, rel=0.35)
    middles = [np.nonzero(hole)[1].mean() for hole in holes]
    assert max(middles) - min(middles) > 100
    assert len(moving_shapes([mask], 200, 300, 5)) == 5, "one shape is enough"


def test_metrics_inside_the_hole() -> None:
    true = np.random.default_rng(2).integers(0, 256, (40, 60, 3), np.uint8)
    [hole, *_] = stationary_boxes(40, 60, 3)
    assert hole_psnr(true, true, hole) == MAX_PSNR
    off = np.where(hole[..., None], true // 2, true)
    assert 5 < hole_psnr(off, true, hole) < 20
    assert hole_psnr(np.where(hole[..., None], true, 0).astype(np.uint8), true, hole) == MAX_PSNR
    assert hole_ssim(true, true, hole) == pytest.approx(1)
    assert hole_ssim(off, true, hole) < 0.9
    assert warping_error([true, true], [true, true], [hole, hole]) < 1
    assert warping_error([true, off], [true, true], [hole, hole]) > 20
    filled = filled_alone(painted(true, hole), hole)
    assert np.array_equal(filled[~hole], true[~hole])
