"""Masks as polygons, and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from maskmesh.masks import polygons
from maskmesh.masks.polygons import PolygonMask, outlines, signed_area


@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
@settings(max_examples=300, deadline=None)
def test_polygons_give_the_mask_again(mask: np.ndarray) -> None:
    encoded = PolygonMask.encode(mask)
    assert np.array_equal(encoded.decode(), mask)
    area = sum(signed_area(ring) for polygon in encoded.polygons for ring in polygon)
    assert area == mask.sum()


def test_a_hole_belongs_to_its_polygon_and_an_island_does_not() -> None:
    mask = np.zeros((20, 20), dtype=bool)
    mask[2:18, 2:18] = True
    mask[5:15, 5:15] = False
    mask[8:12, 8:12] = True
    polygons = PolygonMask.encode(mask).polygons
    assert sorted(len(polygon) for polygon in polygons) == [1, 2]


def test_a_square_has_four_points_clockwise() -> None:
    mask = np.zeros((4, 5), dtype=bool)
    mask[1:3, 1:4] = True
    [ring] = list(outlines(mask))
    assert {tuple(point) for point in ring.tolist()} == {(1, 1), (4, 1), (4, 3), (1, 3)}
    assert signed_area(ring) == 6


@pytest.mark.parametrize("tolerance", [1.0, 2.0])
def test_simplification_stays_within_its_tolerance(tolerance: float) -> None:
    rows, columns = np.mgrid[:200, :200]
    mask = (rows - 100) ** 2 + (columns - 90) ** 2 < 70**2
    exact, simple = PolygonMask.encode(mask), PolygonMask.encode(mask, tolerance)
    assert len(simple.polygons[0][0]) < len(exact.polygons[0][0]) / 4
    changed = np.argwhere(simple.decode() != mask)
    distances = np.abs(np.hypot(changed[:, 0] - 100, changed[:, 1] - 90) - 70)
    assert distances.max() < tolerance + 1.5


def test_edges_are_filled_in_parts_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    rings = [random.uniform(-5, 45, (25, 2)).astype(np.float32) for _ in range(3)]
    mask = PolygonMask(40, 40, [rings])
    whole = mask.decode()
    assert 0 < whole.sum() < whole.size
    monkeypatch.setattr(polygons, "_EDGES_AT_ONCE", 7)
    assert np.array_equal(mask.decode(), whole)


def test_an_empty_mask_has_no_polygons() -> None:
    encoded = PolygonMask.encode(np.zeros((3, 4), dtype=bool))
    assert list(encoded.polygons) == []
    assert not encoded.decode().any()
