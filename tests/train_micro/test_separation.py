"""What the model is judged by is nothing that it was trained on."""

from pathlib import Path

import numpy as np
import pytest

from tests.golden import DATA, needs_data
from tests.train_micro.sources import drawn_sources
from tools import make_sample
from tools.train_micro import __main__ as command
from tools.train_micro.sources import TRAINING_NAMES, VALIDATION_NAMES, load_sources
from tools.train_micro.suites import EVALUATION_STREAM, FRAMES, SUITES, Suites
from tools.train_micro.textures import TRAINING_TEXTURES


def test_no_picture_is_on_both_sides() -> None:
    assert not set(TRAINING_NAMES) & set(VALIDATION_NAMES)
    assert len(VALIDATION_NAMES) == 80
    assert VALIDATION_NAMES[0] == "0721"


def test_no_seed_is_on_both_sides() -> None:
    training = set(range(1, len(command.IMAGE_PLANS) + len(command.CLIP_PLANS) + 1))
    evaluation = set(range(EVALUATION_STREAM, EVALUATION_STREAM + len(SUITES)))
    assert not (training | {command.VALIDATION_STREAM}) & evaluation
    assert command.VALIDATION_STREAM not in training
    assert make_sample.SAMPLE_SEED not in training


def test_no_texture_is_on_both_sides() -> None:
    assert not set(TRAINING_TEXTURES) & set(make_sample.SAMPLE_TEXTURES)
    module = Path(make_sample.__file__).read_text()
    assert "train_micro" not in module


def test_clips_of_the_evaluation_show_their_own_pictures_only() -> None:
    """Whatever is in them comes from the photographs that they were given."""
    sources = drawn_sources(3)
    grey = [np.full_like(s.picture, 100) for s in sources]
    only_grey = [type(s)(s.name, picture, s.mask) for s, picture in zip(sources, grey, strict=True)]
    for suite in SUITES:
        for frame in Suites(only_grey).clips(suite, 1)[0].frames:
            assert isinstance(frame.image, np.ndarray)
            assert np.abs(frame.image.astype(int) - 100).max() <= 1


@pytest.mark.parametrize("suite", list(SUITES))
def test_suites_ask_what_they_say(suite: str) -> None:
    clips = Suites(drawn_sources(6)).clips(suite, 3)
    for clip in clips:
        assert len(clip.frames) == FRAMES
        shown = np.array([np.count_nonzero(frame.labels == 1) for frame in clip.frames])
        assert shown[0] > 0
        assert shown[-1] > 0
        if suite == "hidden for a while":
            assert np.count_nonzero(shown == 0) >= 4
        elif suite == "two alike cross":
            assert clip.frames[0].objects() == [1, 2]
        else:
            assert shown.min() > 0.1 * shown.max()


@needs_data
def test_the_split_is_that_of_the_data() -> None:
    first = load_sources(DATA / "ecssd", VALIDATION_NAMES[:2])
    assert [s.name for s in first] == ["0721", "0722"]
    assert all(s.mask.any() for s in first)


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"0001\.jpg"):
        load_sources(tmp_path, ["0001"])
