"""Parts of the tracker's points: similarity with the surroundings, points in masks, the limit of points."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from maskmesh.errors import ResourceExhausted
from tracker_svc.points.components import PointComponents
from tracker_svc.points.local_scores import local_scores, sample
from tracker_svc.points.point_service import points_inside


def test_local_scores_are_those_of_interpolated_features() -> None:
    """Positions lie inside, at the edge and outside of the frame."""
    generator = torch.Generator().manual_seed(5)
    features = torch.randn(2, 8, 6, 9, generator=generator)
    points = torch.randn(40, 2, 8, generator=generator)
    positions = torch.rand(40, 2, 2, generator=generator) * 1.6 - 0.3
    found = local_scores(features, points, positions, 7)
    offsets = torch.arange(7) - 3
    rows, columns = torch.meshgrid(offsets, offsets, indexing="ij")
    cells = torch.stack([columns, rows], dim=-1).flatten(0, 1) / torch.tensor([9, 6])
    for frame in range(2):
        grid = 2 * (positions[:, frame, None] + cells) - 1
        patches = F.grid_sample(features[frame, None], grid[None], align_corners=False)[0]
        expected = torch.einsum("nc,cnp->np", points[:, frame], patches)
        torch.testing.assert_close(found[:, frame], expected, rtol=1e-4, atol=1e-4)


def test_features_at_the_centre_of_a_cell_are_those_of_the_cell() -> None:
    features = torch.arange(24.0).view(1, 2, 3, 4)
    positions = torch.tensor([[2.5 / 4, 1.5 / 3], [5.0, -1.0]])
    found = sample(features, positions)
    torch.testing.assert_close(found[0], features[0, :, 1, 2])
    torch.testing.assert_close(found[1], features[0, :, 0, 3], msg="beyond the edge, those of the edge")


def test_points_inside_a_mask() -> None:
    mask = np.zeros((10, 12), np.bool_)
    mask[2:6, 4:8] = True
    assert points_inside(mask, 2, 2) == [(5, 3), (7, 3), (5, 5), (7, 5)]
    mask[2:4, 4:6] = False
    assert points_inside(mask, 2, 2) == [(7, 3), (5, 5), (7, 5)]
    assert points_inside(np.zeros((4, 4), np.bool_), 3, 3) == []


def test_points_of_calls_are_bounded_and_given_back() -> None:
    nothing: Any = None
    components = PointComponents(
        model=nothing, info=nothing, worker=nothing, embeddings=nothing, tokenizer=None, max_points=5
    )
    with components.room(3):
        with pytest.raises(ResourceExhausted, match="follows 3 points, and 3 more exceed its limit of 5"):
            components.room(3).__enter__()
        with components.room(2):
            assert components.num_points == 5
        assert components.num_points == 3
    assert components.num_points == 0
