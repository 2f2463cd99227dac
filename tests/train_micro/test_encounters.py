"""Objects of training scenes are hidden for a while and return, and similar ones cross."""

from dataclasses import replace

import numpy as np
import pytest

from tests.train_micro.sources import drawn_clip, drawn_sources
from tools.train_micro.data.sources import Pool
from tools.train_micro.scenes.compose import Composer
from tools.train_micro.scenes.encounters import cover, cross, pass_behind, path_of_object
from tools.train_micro.scenes.motions import still
from tools.train_micro.scenes.render import Layer, Pose, render

FRAMES = 24
SIDE = 64
WHOLE = still(Pose(0.5, 0.5, 1.0))
SEEDS = range(10)


def square(size: float) -> Layer:
    full = np.full((SIDE, SIDE), 255, dtype=np.uint8)
    picture = np.full((SIDE, SIDE, 3), 200, dtype=np.uint8)
    return Layer(picture, full[None], full, still(Pose(0.5, 0.5, size)))


def shares(*layers: Layer) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """The visible fraction of each layer's area: [FRAMES, layers]."""
    return render(layers, WHOLE, [float(time) for time in range(FRAMES)], 96).shares


@pytest.mark.parametrize("seed", SEEDS)
def test_target_is_hidden_behind_a_wall_and_returns(seed: int) -> None:
    target, wall = pass_behind(square(0.15), square(0.5), np.random.default_rng(seed), FRAMES)
    seen = shares(target, wall)[:, 0]
    assert seen[0] > 0.6
    hidden = np.nonzero(seen < 0.01)[0]
    assert len(hidden) >= 3
    assert seen[hidden.max() :].max() > 0.2


@pytest.mark.parametrize("seed", SEEDS)
def test_objects_that_cross_come_close_and_part(seed: int) -> None:
    layers = cross(square(0.3), square(0.3), np.random.default_rng(seed), FRAMES)
    centres = np.array([[(p.x, p.y) for p in map(layer.motion, range(FRAMES))] for layer in layers])
    apart = np.linalg.norm(centres[0] - centres[1], axis=1)
    assert apart[0] > 0.25
    assert apart.min() < 0.2
    assert apart[-1] > apart.min() + 0.05


@pytest.mark.parametrize("seed", SEEDS)
def test_wall_covers_a_moving_object_for_a_while(seed: int) -> None:
    places = np.stack([np.linspace(0.3, 0.7, FRAMES), np.full(FRAMES, 0.5)], axis=1)
    target = replace(square(0.2), motion=lambda time: Pose(places[int(time), 0], 0.5, 0.2))
    seen = shares(target, cover(square(0.3), places, np.random.default_rng(seed)))[:, 0]
    assert seen[0] > 0.99
    assert (seen < 0.01).sum() >= 3
    assert seen[-1] > 0.99


def test_path_of_a_filmed_object() -> None:
    """A square of a third of the frame moves to the right on a background that is magnified and mirrored."""
    clip = drawn_clip(8)
    masks = np.where(clip.labels == 1, 255, 0).astype(np.uint8)[:, None]
    layer = Layer(clip.frames, masks, None, still(Pose(0.5, 0.6, 1.2, flip=True)))
    places, side = path_of_object(layer, 0, 8)
    rendered = render([layer], WHOLE, [float(time) for time in range(8)], 100)
    for place, mask in zip(places, rendered.masks[:, 0], strict=True):
        rows, columns = np.nonzero(mask)
        if columns.min() > 0 and columns.max() < 99:
            middle = (columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2
            assert (place * 100 - 0.5).tolist() == pytest.approx(middle, abs=1)
    assert side == pytest.approx(1.2 * 100 / 288, abs=0.01)


def test_scenes_with_encounters_track_what_meets() -> None:
    """With filmed and other backgrounds, all objects are visible on the first frame, and some disappear."""
    composer = Composer(Pool(drawn_sources(4)), 96, clips=[drawn_clip(12)], encounters=1.0)
    vanished = 0
    for seed in range(30):
        scene, objects = composer.clip_scene(np.random.default_rng(seed), 12)
        assert 1 <= len(objects) <= 2
        areas = scene.masks[:, objects].sum(axis=(2, 3))
        assert (areas[0] >= 150).all()
        vanished += bool((areas == 0).any())
    assert 6 <= vanished <= 24


@pytest.mark.parametrize("encounters", [0.0, 1.0])
def test_scenes_may_be_longer_than_some_filmed_clips(encounters: float) -> None:
    clips = [drawn_clip(10), drawn_clip(16)]
    composer = Composer(Pool(drawn_sources(2)), 96, clips=clips, filmed=1.0, encounters=encounters)
    for seed in range(6):
        for frames in (12, 20):
            scene, objects = composer.clip_scene(np.random.default_rng(seed), frames)
            assert len(scene.frames) == frames
            assert objects


def test_short_clips_have_no_encounters() -> None:
    """Too few frames show no object before, during and after an absence."""
    plain, other = (Composer(Pool(drawn_sources(4)), 96, encounters=e) for e in (0.0, 1.0))
    for seed in range(5):
        one, two = (c.clip_scene(np.random.default_rng(seed), 4)[0].frames for c in (plain, other))
        assert np.array_equal(one, two)
