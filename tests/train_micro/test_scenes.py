"""Rendered scenes match their masks, and equal seeds give equal scenes."""

import numpy as np
import pytest

from tests.train_micro.sources import drawn_sources
from tools.train_micro.scenes.compose import Composer, still
from tools.train_micro.scenes.render import Layer, Pose, render

SIDE = 64
WHOLE = still(Pose(0.5, 0.5, 1.0))


def flat(colour: int, pose: Pose) -> Layer:
    """A layer that is a uniform grey square."""
    full = np.full((SIDE, SIDE), 255, dtype=np.uint8)
    return Layer(np.full((SIDE, SIDE, 3), colour, dtype=np.uint8), full, full, still(pose))


def ground() -> Layer:
    black = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    return Layer(black, black[..., 0], None, WHOLE)


def test_pose_sets_position_and_size() -> None:
    rendered = render([ground(), flat(200, Pose(0.25, 0.5, 0.25))], WHOLE, [0.0], 128)
    rows, columns = np.nonzero(rendered.masks[0, 1])
    assert (columns.min(), columns.max() + 1) == (16, 48)
    assert (rows.min(), rows.max() + 1) == (48, 80)
    assert rendered.shares[0, 1] == pytest.approx(1, abs=0.01)
    inside = rendered.frames[0][rendered.masks[0, 1]]
    assert np.abs(inside.astype(int) - 200).max() <= 1


def test_shear_moves_rows_sideways() -> None:
    sheared = flat(200, Pose(0.5, 0.5, 0.5, shear=0.5))
    mask = render([ground(), sheared], WHOLE, [0.0], 128).masks[0, 1]
    rows = np.nonzero(mask.any(axis=1))[0]
    assert (rows.min(), rows.max() + 1) == (32, 96)
    starts = [int(np.nonzero(mask[row])[0].min()) for row in (34, 64, 94)]
    # The shift is half of the distance from the middle row: 15 pixels over 30 rows.
    assert starts == pytest.approx([17, 32, 47], abs=1)


def test_shrinking_averages_pixels() -> None:
    """A fine checkerboard becomes uniform grey at the same position."""
    board = np.indices((SIDE * 4, SIDE * 4)).sum(axis=0) % 2 * 255
    picture = np.repeat(board[..., None], 3, axis=-1).astype(np.uint8)
    full = np.full(board.shape, 255, dtype=np.uint8)
    layer = Layer(picture, full, full, still(Pose(0.25, 0.5, 0.25)))
    rendered = render([ground(), layer], WHOLE, [0.0], 128)
    rows, columns = np.nonzero(rendered.masks[0, 1])
    assert (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1) == (16, 48, 48, 80)
    assert np.abs(rendered.frames[0][50:78, 18:46].astype(int) - 127).max() < 12


def test_front_layer_occludes_layers_behind() -> None:
    back, front = flat(100, Pose(0.5, 0.5, 0.5)), flat(200, Pose(0.625, 0.5, 0.25))
    rendered = render([ground(), back, front], WHOLE, [0.0], 128)
    assert not (rendered.masks[0, 1] & rendered.masks[0, 2]).any()
    assert rendered.shares[0, 1] == pytest.approx(0.75, abs=0.02)
    assert rendered.shares[0, 2] == pytest.approx(1, abs=0.02)


def test_layers_are_clipped_at_the_image_border() -> None:
    rendered = render([ground(), flat(200, Pose(1.0, 0.5, 0.5)), flat(9, Pose(3, 3, 0.5))], WHOLE, [0.0], 128)
    assert rendered.shares[0].tolist() == pytest.approx([0, 0.5, 0], abs=0.02)


def test_camera_moves_all_layers() -> None:
    layers = [ground(), flat(200, Pose(0.5, 0.5, 0.25))]
    rendered = render(layers, lambda time: Pose(0.5 + 0.25 * time, 0.5, 1.0), [0.0, 1.0], 128)
    assert np.array_equal(np.roll(rendered.masks[0, 1], 32, axis=1), rendered.masks[1, 1])


@pytest.mark.parametrize("frames", [1, 6])
def test_equal_seeds_make_equal_scenes(frames: int) -> None:
    composer = Composer(drawn_sources(4), 96)

    def make(seed: int) -> tuple[bytes, list[int]]:
        random = np.random.default_rng(seed)
        scene, layers = composer.clip_scene(random, frames) if frames > 1 else composer.still_scene(random)
        assert scene.frames.shape == (frames, 96, 96, 3)
        return scene.frames.tobytes() + scene.masks.tobytes(), layers

    assert make(3) == make(3)
    assert make(3) != make(4)


def test_promptable_layers_are_visible() -> None:
    composer = Composer(drawn_sources(4), 96)
    for seed in range(30):
        scene, layers = composer.clip_scene(np.random.default_rng(seed), 4)
        assert layers
        assert all(scene.masks[0, layer].sum() >= 150 for layer in layers)
