"""Sets of points: points that join late, or are removed, do not change the others."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch

from maskmesh.nn.image_features import GreyFeatures, PointFeatures
from maskmesh.nn.loading import seeded
from maskmesh.telemetry import StageRecorder
from tracker_svc.compute.step import Frame
from tracker_svc.points.config import POINT_PRESETS
from tracker_svc.points.lucas_kanade import IMAGE_SIZE, LucasKanadeModel
from tracker_svc.points.point_set import PointModel, PointSet, Query, TrackedPoint
from tracker_svc.points.tapir import PointTrackingModel
from tracker_svc.points.tapir_points import TapirModel

FIRST, LATE = Query(1, 20.0, 24.0), Query(2, 40.0, 30.0)


def tapir() -> tuple[PointModel, list[Frame]]:
    config = POINT_PRESETS["tapir-test"]
    model = seeded(lambda: PointTrackingModel(config)).eval()
    generator = torch.Generator().manual_seed(1)
    side = config.image_size // 8
    frames = [
        Frame(
            PointFeatures(
                torch.randn(1, config.low_res_dim, side, side, generator=generator),
                torch.randn(1, config.high_res_dim, 2 * side, 2 * side, generator=generator),
            ),
            config.image_size,
            config.image_size,
        )
        for _ in range(6)
    ]
    return TapirModel(model, lambda: False), frames


def flow() -> tuple[PointModel, list[Frame]]:
    random = np.random.default_rng(2)
    picture = cv2.GaussianBlur(
        random.integers(0, 256, (IMAGE_SIZE, IMAGE_SIZE)).astype(np.float32), (0, 0), 4
    )
    picture = (picture - picture.min()) / np.ptp(picture) * 255
    moved = [np.roll(picture, 3 * step, axis=1) for step in range(6)]
    return LucasKanadeModel(), [
        Frame(GreyFeatures(torch.from_numpy(grey)[None, None]), 64, 64) for grey in moved
    ]


def followed(points: PointSet, frames: list[Frame]) -> list[list[TrackedPoint]]:
    return [points.track([frame], [StageRecorder()])[0] for frame in frames]


@pytest.mark.parametrize("make", [tapir, flow])
def test_late_point_that_joins_is_followed_as_if_it_had_been_there(
    make: Callable[[], tuple[PointModel, list[Frame]]],
) -> None:
    model, frames = make()
    expected = model.new_set()
    expected.add(frames[0], [FIRST], StageRecorder())
    whole = followed(expected, frames[:1])
    expected.add(frames[1], [LATE], StageRecorder())
    whole += followed(expected, frames[1:])

    points, late = model.new_set(), model.new_set()
    points.add(frames[0], [FIRST], StageRecorder())
    followed(points, frames[:4])
    late.add(frames[1], [LATE], StageRecorder())
    followed(late, frames[1:4])
    points.join(late)
    assert len(points) == 2
    for found, wanted in zip(followed(points, frames[4:]), whole[4:], strict=True):
        assert [p.point_id for p in found] == [1, 2]
        np.testing.assert_allclose(
            [(p.x, p.y, p.confidence) for p in found], [(p.x, p.y, p.confidence) for p in wanted], atol=1e-3
        )
    if isinstance(model, LucasKanadeModel):
        assert whole[5][0].x == pytest.approx(20 + 5 * 3 * 64 / IMAGE_SIZE, abs=0.1)


@pytest.mark.parametrize("make", [tapir, flow])
def test_points_join_an_empty_set(make: Callable[[], tuple[PointModel, list[Frame]]]) -> None:
    model, frames = make()
    points, late, expected = model.new_set(), model.new_set(), model.new_set()
    followed(points, frames[:3])
    for one in (late, expected):
        one.add(frames[1], [LATE], StageRecorder())
        followed(one, frames[1:3])
    points.join(late)
    assert followed(points, frames[3:]) == followed(expected, frames[3:])


@pytest.mark.parametrize("make", [tapir, flow])
def test_removed_point_leaves_the_others_as_they_are(
    make: Callable[[], tuple[PointModel, list[Frame]]],
) -> None:
    model, frames = make()
    points, expected = model.new_set(), model.new_set()
    points.add(frames[0], [FIRST, LATE], StageRecorder())
    expected.add(frames[0], [LATE], StageRecorder())
    followed(points, frames[:2])
    followed(expected, frames[:2])
    points.remove({1, 77})
    found, wanted = followed(points, frames[2:]), followed(expected, frames[2:])
    assert [p.point_id for p in found[0]] == [2]
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose((ours[0].x, ours[0].y), (theirs[0].x, theirs[0].y), atol=1e-3)
    points.remove({2})
    assert followed(points, frames[5:]) == [[]]
    assert len(points) == 0
