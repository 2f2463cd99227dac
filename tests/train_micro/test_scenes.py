"""Rendered scenes match their masks, and equal seeds give equal scenes."""

import numpy as np
import pytest

from tests.train_micro.sources import drawn_clip, drawn_sources
from tools.train_micro.data.sets import IMAGE_SETS, ImageSet
from tools.train_micro.data.sources import SOURCE_SIZE, Pool, Source
from tools.train_micro.scenes.compose import MIN_OBJECT_PIXELS, Composer, chosen_masks
from tools.train_micro.scenes.motions import still
from tools.train_micro.scenes.render import Layer, Pose, render

SIDE = 64
WHOLE = still(Pose(0.5, 0.5, 1.0))


def flat(colour: int, pose: Pose) -> Layer:
    """A layer that is a uniform grey square."""
    full = np.full((SIDE, SIDE), 255, dtype=np.uint8)
    return Layer(np.full((SIDE, SIDE, 3), colour, dtype=np.uint8), full[None], full, still(pose))


def ground() -> Layer:
    black = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    return Layer(black, black[None, ..., 0], None, WHOLE)


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
    layer = Layer(picture, full[None], full, still(Pose(0.25, 0.5, 0.25)))
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
    composer = Composer(Pool(drawn_sources(4)), 96)

    def make(seed: int) -> tuple[bytes, list[int]]:
        random = np.random.default_rng(seed)
        scene, layers = composer.clip_scene(random, frames) if frames > 1 else composer.still_scene(random)
        assert scene.frames.shape == (frames, 96, 96, 3)
        return scene.frames.tobytes() + scene.masks.tobytes(), layers

    assert make(3) == make(3)
    assert make(3) != make(4)


def test_some_stills_are_frames_of_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.train_micro.scenes.compose.FILMED_STILLS", 0.5)
    clip = drawn_clip(4)
    composer = Composer(Pool(drawn_sources(4)), 96, composed=0.0, clips=[clip])
    filmed = 0
    for seed in range(20):
        scene, layers = composer.still_scene(np.random.default_rng(seed))
        assert layers
        grey = (scene.frames[0].astype(int) - clip.frames[0, 0, 0]).any(axis=-1)
        filmed += not grey[0, 0]
    assert 5 <= filmed <= 15


def test_promptable_layers_are_visible() -> None:
    composer = Composer(Pool(drawn_sources(4)), 96)
    for seed in range(30):
        scene, layers = composer.clip_scene(np.random.default_rng(seed), 4)
        assert layers
        assert all(scene.masks[0, layer].sum() >= 150 for layer in layers)


def striped(name: str, image_set: ImageSet, stripes: int) -> Source:
    """An image with ids 1 to ``stripes`` side by side, the first one tiny, and a margin without an object."""
    labels = np.zeros((SOURCE_SIZE, SOURCE_SIZE), dtype=np.uint8)
    labels[:10, :10] = 1
    for number in range(2, stripes + 1):
        labels[50:, 40 * (number - 1) : 40 * number] = number
    picture = np.repeat(labels[..., None] * 20, 3, axis=-1)
    return Source(name, picture, labels, image_set)


def test_tiny_objects_are_not_prompted() -> None:
    source = striped("a", IMAGE_SETS[0], 4)
    masks = chosen_masks(source, np.random.default_rng(0))
    assert len(masks) == 3
    assert (np.count_nonzero(masks, axis=(1, 2)) >= MIN_OBJECT_PIXELS).all()


def test_parts_are_prompted_alone_or_as_a_whole() -> None:
    clothes = next(s for s in IMAGE_SETS if s.is_whole)
    source = striped("a", clothes, 4)
    random = np.random.default_rng(0)
    found = [chosen_masks(source, random) for _ in range(20)]
    whole = [masks for masks in found if len(masks) == 1]
    assert 4 <= len(whole) <= 16
    assert np.array_equal(whole[0][0] > 0, source.labels > 0)


def test_sets_are_drawn_by_their_shares_and_parts_are_never_cut_out() -> None:
    large, small = (
        ImageSet(name=name, share=share, source="", terms="") for name, share in (("a", 3), ("b", 1))
    )
    parts = ImageSet(name="parts", share=4, source="", terms="", parts=True)
    pool = Pool(
        [striped("a1", large, 4), *(striped(f"b{n}", small, 4) for n in range(5)), striped("c", parts, 4)]
    )
    random = np.random.default_rng(0)
    drawn = [pool.photograph(random).image_set.name for _ in range(800)]
    assert drawn.count("a") == pytest.approx(300, abs=50)
    assert drawn.count("b") == pytest.approx(100, abs=40)
    cut_out = [pool.object(random) for _ in range(200)]
    assert {source.image_set.name for source, _ in cut_out} == {"a", "b"}
    assert {label for _, label in cut_out} == {2, 3, 4}


def test_filmed_scenes_have_the_masks_of_their_frames() -> None:
    composer = Composer(Pool(drawn_sources(2)), 96, clips=[drawn_clip(12)], filmed=1.0)
    seen = set()
    for seed in range(12):
        scene, objects = composer.clip_scene(np.random.default_rng(seed), 4)
        for number in objects:
            for frame, mask in zip(scene.frames, scene.masks[:, number], strict=True):
                inside = frame[mask]
                if len(inside) > 50 and inside.std() < 12:
                    seen.add(round(float(np.median(inside)) / 40))
    assert {1, 5} <= seen
