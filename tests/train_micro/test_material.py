"""The material of a training run: what is held out, and what the open recipe leaves out."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from tools.train_micro.data.material import Material
from tools.train_micro.data.real_clips import CLIPS_WITH_OTHER_TERMS, VALIDATION_CLIPS
from tools.train_micro.data.sets import IMAGE_SETS
from tools.train_micro.data.sources import TRAINING_NAMES, VALIDATION_NAMES

PICTURES = 13
CLIPS = ("bear", *VALIDATION_CLIPS[:1], *CLIPS_WITH_OTHER_TERMS)


def write(folder: Path, images: str, name: str) -> None:
    """A picture, and a mask with the ids 1 and 2."""
    labels = np.zeros((24, 32), dtype=np.uint8)
    labels[4:12, 4:12], labels[12:20, 20:30] = 1, 2
    for inner, picture, suffix in ((images, 40 * labels, "jpg"), ("masks", labels, "png")):
        (folder / inner).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / inner / f"{name}.{suffix}"), picture)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """ECSSD, and the other sets with few pictures."""
    ecssd, sets = tmp_path_factory.mktemp("ecssd"), tmp_path_factory.mktemp("sets")
    for name in (*TRAINING_NAMES, *VALIDATION_NAMES):
        write(ecssd, "images", name)
    for image_set in IMAGE_SETS:
        for number in range(PICTURES):
            write(sets / "images" / image_set.name, "images", f"{number:02d}")
    for name in CLIPS:
        for number in range(3):
            write(sets / "clips" / name, "frames", f"{number:05d}")
    return ecssd, sets


def test_held_out_material_is_not_trained_on(folders: tuple[Path, Path]) -> None:
    material = Material.read(*folders)
    training = {source.name for source in material.training}
    held_out = {source.name for source in material.held_out}
    assert not training & held_out
    assert len(training) == len(TRAINING_NAMES) + (PICTURES - 2) * len(IMAGE_SETS)
    assert len(held_out) == len(VALIDATION_NAMES) + 2 * len(IMAGE_SETS)
    assert [clip.name for clip in material.clips] == sorted(set(CLIPS) - set(VALIDATION_CLIPS))
    assert [clip.name for clip in material.held_out_clips] == [VALIDATION_CLIPS[0]]
    osie = next(source for source in material.training if source.image_set.name == "osie")
    assert osie.ids() == [1, 2]
    assert material.clips[0].promptable(0, 1) == [1, 2]


def test_open_recipe_trains_on_open_sets_only(folders: tuple[Path, Path]) -> None:
    material = Material.read(*folders, only_open=True)
    assert {source.image_set.name for source in material.training} == {
        s.name for s in IMAGE_SETS if s.is_open
    }
    assert not {clip.name for clip in material.clips} & set(CLIPS_WITH_OTHER_TERMS)
    with pytest.raises(ValueError, match="needs the folder of the sets"):
        Material.read(folders[0], None, only_open=True)


def test_every_set_says_its_terms() -> None:
    assert all(image_set.terms and image_set.source for image_set in IMAGE_SETS)
    assert not any(s.is_open for s in IMAGE_SETS if s.terms.startswith("none"))
