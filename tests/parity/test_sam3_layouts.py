"""Checkpoints of SAM 3 in both published layouts: conversion, strictness, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, models
from torch import Tensor

from encoder_svc.model import weights as encoder_weights
from encoder_svc.model.config import PRESETS
from maskmesh.concepts import Concept
from maskmesh.config import ModelSettings
from maskmesh.nn import sam3_layouts
from maskmesh.nn.checkpoint import CheckpointError, expected_keys, read_checkpoint, weights_digest
from maskmesh.nn.image_features import TrunkFeatures
from maskmesh.nn.loading import load_model
from maskmesh.nn.sam3_layouts import Layout
from tests.golden import needs_data, relative_error
from tests.golden_sam3 import PRESET, SAM3, arrays, model_input, official_state
from tracker_svc.components import concept_finder
from tracker_svc.config import TrackerSettings
from tracker_svc.model import weights as tracker_weights
from tracker_svc.model.config import PRESETS as TRACKER_PRESETS

pytestmark = needs_data


def as_hugging_face(official: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights in the layout of Hugging Face, made by the table of the test data."""
    table = json.loads((SAM3 / "checkpoint_keys" / "sam3_to_hf.json").read_text())["map"]
    made: dict[str, Tensor] = {}
    rows: dict[str, dict[int, Tensor]] = {}
    for key, value in official.items():
        operation, *names = table[key]
        if operation == "split3":
            made |= dict(zip(names, (part.clone() for part in value.chunk(3)), strict=True))
        elif operation == "drop_first":
            made[names[0]] = value[:, 1:].clone()
        elif operation == "transpose":
            made[names[0]] = value.T.contiguous()
        elif operation.startswith("row"):
            rows.setdefault(names[0], {})[int(operation[3:])] = value[0]
        elif operation == "copy":
            made |= {name: value.clone() for name in names}
    return made | {name: torch.stack([found[i] for i in sorted(found)]) for name, found in rows.items()}


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("official") / "sam3.pt"
    torch.save(official_state(), path)
    return path


@pytest.fixture(scope="module")
def hugging_face(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hugging_face") / "model.safetensors"
    save_file(as_hugging_face(official_state()), path)
    return path


def changed(tmp_path: Path, **changes: Tensor | None) -> Path:
    """The official checkpoint with other keys; None removes one."""
    state = {k: v for k, v in (official_state() | changes).items() if v is not None}
    path = tmp_path / "changed.pt"
    torch.save({"model": state}, path)
    return path


def test_both_layouts_give_the_same_weights(official: Path, hugging_face: Path) -> None:
    first, second = (read_checkpoint(PRESET, path) for path in (official, hugging_face))
    assert first.keys() == second.keys() == expected_keys(PRESET).keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key
    assert weights_digest(first) == weights_digest(second)


def test_each_service_loads_its_part_in_the_final_type(hugging_face: Path) -> None:
    settings = ModelSettings(model=PRESET, checkpoint=hugging_face, dtype="bfloat16", threads=1)
    encoder = load_model(settings, PRESETS, encoder_weights.build)
    tracker = load_model(settings, TRACKER_PRESETS, tracker_weights.build)
    assert encoder.info.model_id == tracker.info.model_id
    assert {p.dtype for p in encoder.model.parameters()} == {torch.bfloat16}
    kept = {k for k, v in tracker.model.state_dict().items() if v.dtype is torch.float32}
    assert kept == set(tracker.model.float32_keys)


def test_encoder_from_a_file_computes_the_golden_embedding(official: Path) -> None:
    settings = ModelSettings(model=PRESET, checkpoint=official, dtype="float32", threads=1)
    encoder = load_model(settings, PRESETS, encoder_weights.build).model
    with torch.inference_mode():
        embedding = encoder(model_input(Image.open(SAM3 / "image_168.png").convert("RGB")))
    assert isinstance(embedding, TrunkFeatures)
    expected = torch.from_numpy(arrays("image_stages_168")["vit/out"])
    assert relative_error(embedding.trunk_map, expected) <= 3e-5


def test_missing_foreign_and_misshapen_keys_are_named(tmp_path: Path) -> None:
    path = changed(
        tmp_path,
        **{
            "tracker.no_obj_ptr": None,
            "detector.backbone.more": torch.zeros(1),
            "detector.geometry_encoder.norm.weight": torch.zeros(7),
        },
    )
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(PRESET, path)
    message = str(caught.value)
    assert "missing: tracker.no_obj_ptr" in message
    assert "unexpected: detector.backbone.more" in message
    assert "detector.geometry_encoder.norm.weight is [7], not [128]" in message


def test_sam3_1_is_refused_by_name(tmp_path: Path) -> None:
    keys = json.loads((SAM3 / "checkpoint_keys" / "sam3.1_multiplex.json").read_text())["keys"]
    path = tmp_path / "multiplex.pt"
    torch.save({key: torch.zeros(1) for key in keys}, path)
    with pytest.raises(CheckpointError, match=r"multiplex\.pt is a checkpoint of SAM 3\.1, not of sam3"):
        read_checkpoint(PRESET, path)


def test_a_checkpoint_of_sam2_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sam2.pt"
    torch.save({"model": {key: torch.zeros(1) for key in expected_keys("sam2.1-tiny")}}, path)
    with pytest.raises(CheckpointError, match="not one of sam3-test; missing: detector"):
        read_checkpoint(PRESET, path)


@pytest.mark.parametrize("name", ["sam3.json", "sam3_hf.json"])
def test_key_lists_of_the_full_model_are_complete(name: str) -> None:
    """Every key of both published files has one use, or is named as unused, with equal shapes."""
    published = json.loads((SAM3 / "checkpoint_keys" / name).read_text())["keys"]
    layout = sam3_layouts.layout_of(published)
    assert layout is (Layout.OFFICIAL if name == "sam3.json" else Layout.HUGGING_FACE)
    expected = expected_keys("sam3")
    read = {
        file_key: shape
        for source in sam3_layouts.sources(layout, expected).values()
        for file_key, shape in source.shapes.items()
    }
    unused = set(sam3_layouts.unused(layout, expected))
    assert read.keys() | unused == published.keys()
    assert not read.keys() & unused
    assert {key: list(shape) for key, shape in read.items()} == {key: published[key] for key in read}


def test_the_vocabulary_must_be_that_of_the_model(official: Path, tmp_path: Path) -> None:
    """It is found beside the checkpoint; a missing one, another one and no vocabulary are named."""
    checkpoint = tmp_path / "sam3.pt"
    checkpoint.symlink_to(official)
    settings = TrackerSettings(model=PRESET, checkpoint=checkpoint, dtype="float32", threads=1)
    loaded = load_model(settings, TRACKER_PRESETS, tracker_weights.build)
    with pytest.raises(CheckpointError, match="sam3-test needs its vocabulary: set --vocabulary"):
        concept_finder(settings, loaded)
    words = tmp_path / "tokenizer.json"
    for size in (7, 49408):
        Tokenizer(models.WordLevel({str(i): i for i in range(size)}, unk_token="0")).save(str(words))
        if size == 7:
            with pytest.raises(CheckpointError, match="json has 7 tokens, sam3-test has 49408"):
                concept_finder(settings, loaded)
    finder = concept_finder(settings, loaded)
    assert finder is not None
    assert finder.tokenize(Concept("7")) == (7,)
    words.write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is no vocabulary"):
        concept_finder(settings, loaded)
