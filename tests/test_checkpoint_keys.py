"""The key lists by which the services validate checkpoints."""

import json
from pathlib import Path

import pytest

from encoder_svc.model.config import PRESETS
from maskmesh.nn.checkpoint import CheckpointError, check_keys, expected_keys
from tests.golden import DATA, needs_data
from tools.write_checkpoint_keys import OUT, checkpoint_keys, point_keys, write
from tracker_svc.points.config import POINT_PRESETS


def test_key_lists_match_the_models(tmp_path: Path) -> None:
    write(tmp_path)
    for preset in (*PRESETS, *POINT_PRESETS):
        assert (tmp_path / f"{preset}.json").read_text() == (OUT / f"{preset}.json").read_text()


@needs_data
@pytest.mark.parametrize("size", ["tiny", "small", "base_plus", "large"])
def test_models_match_the_official_checkpoint_keys(size: str) -> None:
    official = json.loads((DATA / "checkpoint_keys" / f"sam2.1_hiera_{size}.json").read_text())["keys"]
    assert checkpoint_keys(f"sam2.1-{size.replace('_', '-')}") == official


@needs_data
def test_tapir_matches_the_official_checkpoint_keys() -> None:
    official = json.loads((DATA / "tapir" / "checkpoint_keys.json").read_text())["causal"]
    assert point_keys("tapir") == official


def test_key_errors_name_the_keys() -> None:
    shapes = expected_keys("sam2.1-tiny")
    check_keys("sam2.1-tiny", shapes)
    del shapes["sam_mask_decoder.conv_s0.bias"]
    shapes["no_obj_ptr"] = (1, 255)
    shapes["image_encoder.trunk.blocks.77.attn.qkv.weight"] = (3, 3)
    with pytest.raises(CheckpointError) as caught:
        check_keys("sam2.1-tiny", shapes)
    message = str(caught.value)
    assert "missing: sam_mask_decoder.conv_s0.bias" in message
    assert "unexpected: image_encoder.trunk.blocks.77.attn.qkv.weight" in message
    assert "of another shape: no_obj_ptr is [1, 255], not [1, 256]" in message


def test_checkpoint_of_another_model_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"not one of sam2\.1-tiny"):
        check_keys("sam2.1-tiny", expected_keys("sam2.1-large"))
    with pytest.raises(CheckpointError, match="no model"):
        expected_keys("../sam")
