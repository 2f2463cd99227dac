"""Training and evaluation data are disjoint."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.golden import DATA, needs_data
from tests.train_micro.sources import drawn_sources
from tools import make_sample
from tools.train_micro import __main__ as command
from tools.train_micro.clips import Clips
from tools.train_micro.data import material
from tools.train_micro.data.sources import TRAINING_NAMES, VALIDATION_NAMES, Source, load_sources
from tools.train_micro.images import Stills
from tools.train_micro.plans import CLIP_PLANS, IMAGE_PLANS
from tools.train_micro.scenes.compose import Composer
from tools.train_micro.scenes.seeds import EVALUATION_STREAMS, TRAINING_STREAMS, VALIDATION_STREAM
from tools.train_micro.scenes.suites import FRAMES, SUITES, Suites
from tools.train_micro.scenes.textures import TRAINING_TEXTURES


def test_training_and_validation_names_are_disjoint() -> None:
    assert not set(TRAINING_NAMES) & set(VALIDATION_NAMES)
    assert len(VALIDATION_NAMES) == 80
    assert VALIDATION_NAMES[0] == "0721"


@needs_data
def test_training_and_validation_files_are_disjoint() -> None:
    """Checks the photographs and their masks by content."""

    def digests(names: tuple[str, ...], folder: str, suffix: str) -> set[str]:
        files = (DATA / "ecssd" / folder / f"{name}.{suffix}" for name in names)
        return {hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

    for folder, suffix in (("images", "jpg"), ("masks", "png")):
        assert not digests(TRAINING_NAMES, folder, suffix) & digests(VALIDATION_NAMES, folder, suffix)


def test_seed_streams_are_disjoint() -> None:
    streams = [*TRAINING_STREAMS.values(), VALIDATION_STREAM, *EVALUATION_STREAMS.values()]
    assert len(set(streams)) == len(streams)
    assert set(TRAINING_STREAMS) == {plan.name for plan in (*IMAGE_PLANS, *CLIP_PLANS)}
    assert set(EVALUATION_STREAMS) == set(SUITES)
    # The generator of the sample clip is seeded with one number; that of a scene with three.
    assert isinstance(make_sample.SAMPLE_SEED, int)


def test_training_and_sample_textures_are_disjoint() -> None:
    assert not set(TRAINING_TEXTURES) & set(make_sample.SAMPLE_TEXTURES)
    assert "train_micro" not in Path(make_sample.__file__).read_text()
    assert "make_sample" not in "".join(
        path.read_text() for path in Path(command.__file__).parent.glob("*.py")
    )


@pytest.mark.parametrize("phase", ["images", "clips"])
def test_commands_train_only_on_training_data(
    phase: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs one step of every plan, on drawn images with the names of the photographs."""

    def drawn(root: Path, names: tuple[str, ...]) -> list[Source]:
        return [replace(s, name=name) for s, name in zip(drawn_sources(3), names, strict=False)]

    composed: list[tuple[tuple[int, ...], set[str]]] = []

    class Watched(Clips if phase == "clips" else Stills):  # type: ignore[misc]
        def __init__(self, composer: Composer, seeds: tuple[int, ...], *rest: Any, **named: Any) -> None:
            composed.append((seeds, {source.name for source in composer.pool.sources}))
            super().__init__(composer, seeds, *rest, **named)

    small: dict[str, Any] = {"image_size": 64, "steps": 1, "batch": 2}
    monkeypatch.setattr(command, "load_sources", drawn)
    monkeypatch.setattr(material, "load_sources", drawn)
    monkeypatch.setattr(command, "IMAGE_PLANS", tuple(replace(p, **small) for p in IMAGE_PLANS))
    monkeypatch.setattr(command, "CLIP_PLANS", tuple(replace(p, **small) for p in CLIP_PLANS))
    monkeypatch.setattr(command, "Clips" if phase == "clips" else "Stills", Watched)

    def run(name: str) -> None:
        arguments = [name, "--data", str(tmp_path), "--out", str(tmp_path / "run"), "--workers", "0"]
        result = CliRunner().invoke(command.main, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output

    if phase == "clips":
        early = CliRunner().invoke(
            command.main, ["clips", "--data", str(tmp_path), "--out", str(tmp_path / "run")]
        )
        assert early.exit_code == 1
        assert "run the first phase before the second" in early.output
        composed.clear()
        run("images")
    run(phase)
    plans = CLIP_PLANS if phase == "clips" else IMAGE_PLANS
    trained = {seeds: names for seeds, names in composed if seeds[1] != VALIDATION_STREAM}
    assert set(trained) == {(0, TRAINING_STREAMS[plan.name]) for plan in plans}
    assert all(names <= set(TRAINING_NAMES) for names in trained.values())
    watched = [names for seeds, names in composed if seeds[1] == VALIDATION_STREAM]
    assert all(names <= set(VALIDATION_NAMES) for names in watched)
    logged = (tmp_path / "run" / plans[-1].name / "log.jsonl").read_text()
    assert "validation_box" in logged
    assert (tmp_path / "run" / plans[-1].name / "micro.safetensors").is_file()


def test_evaluation_clips_use_only_given_images() -> None:
    """The clips contain only pixels of the given photographs."""
    sources = drawn_sources(3)
    grey = [np.full_like(s.picture, 100) for s in sources]
    only_grey = [type(s)(s.name, picture, s.labels) for s, picture in zip(sources, grey, strict=True)]
    for suite in SUITES:
        for frame in Suites(only_grey).clips(suite, 1)[0].frames:
            assert isinstance(frame.image, np.ndarray)
            assert np.abs(frame.image.astype(int) - 100).max() <= 1


@pytest.mark.parametrize("suite", list(SUITES))
def test_suites_match_their_names(suite: str) -> None:
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
def test_split_matches_the_data() -> None:
    first = load_sources(DATA / "ecssd", VALIDATION_NAMES[:2])
    assert [s.name for s in first] == ["0721", "0722"]
    assert all(s.labels.any() for s in first)


def test_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"0001\.jpg"):
        load_sources(tmp_path, ["0001"])
