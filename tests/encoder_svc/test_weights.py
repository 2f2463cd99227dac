from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from encoder_svc.config import EncoderSettings
from encoder_svc.model import weights as encoder_weights
from encoder_svc.model.config import PRESETS
from maskmesh.nn.checkpoint import CheckpointError, read_checkpoint, weights_digest
from maskmesh.nn.loading import load_model
from tracker_svc.config import TrackerSettings
from tracker_svc.model import weights as tracker_weights
from tracker_svc.model.config import PRESETS as TRACKER_PRESETS


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """A complete checkpoint of the test preset: the weights of the encoder and of the tracker."""
    encoder = encoder_weights.build(PRESETS["test"], None).state_dict()
    tracker = tracker_weights.build(TRACKER_PRESETS["test"], None).state_dict()
    whole = encoder_weights.to_checkpoint_keys(encoder) | tracker_weights.to_checkpoint_keys(tracker)
    return {key: value.clone() for key, value in whole.items()}


def settings(path: Path) -> tuple[EncoderSettings, TrackerSettings]:
    return (
        EncoderSettings(model="test", checkpoint=path, dtype="float32"),
        TrackerSettings(model="test", checkpoint=path, dtype="float32"),
    )


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_both_services_read_both_container_formats(
    state: dict[str, torch.Tensor], tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"whole.{suffix}"
    if suffix == "pt":
        torch.save({"model": state}, path)
    else:
        save_file(state, path)
    encoder_settings, tracker_settings = settings(path)
    encoder = load_model(encoder_settings, PRESETS, encoder_weights.build)
    tracker = load_model(tracker_settings, TRACKER_PRESETS, tracker_weights.build)
    # Both services report the same model id, for either container format.
    assert encoder.info.model_id == tracker.info.model_id
    assert weights_digest(state)[:16] in encoder.info.model_id
    assert encoder.info.trained
    key = "image_encoder.trunk.patch_embed.proj.weight"
    assert torch.equal(encoder.model.state_dict()[key], state[key])
    assert torch.equal(tracker.model.state_dict()["no_obj_ptr"], state["no_obj_ptr"])


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("sam_mask_decoder.conv_s1.weight", None, "missing: sam_mask_decoder.conv_s1.weight"),
        ("obj_ptr_proj.layers.0.bias", None, "missing: obj_ptr_proj.layers.0.bias"),
        ("image_encoder.extra", torch.zeros(2), "unexpected: image_encoder.extra"),
        ("memory_attention.extra", torch.zeros(2), "unexpected: memory_attention.extra"),
        ("no_mem_embed", torch.zeros(1, 1, 3), "of another shape: no_mem_embed is [1, 1, 3], not [1, 1, 64]"),
    ],
)
def test_each_service_validates_the_whole_checkpoint(
    state: dict[str, torch.Tensor],
    tmp_path: Path,
    key: str,
    change: torch.Tensor | None,
    message: str,
) -> None:
    broken = {k: v for k, v in state.items() if k != key}
    if change is not None:
        broken[key] = change
    path = tmp_path / "broken.pt"
    torch.save({"model": broken}, path)
    encoder_settings, tracker_settings = settings(path)
    with pytest.raises(CheckpointError) as caught:
        load_model(encoder_settings, PRESETS, encoder_weights.build)
    assert message in str(caught.value)
    with pytest.raises(CheckpointError) as caught:
        load_model(tracker_settings, TRACKER_PRESETS, tracker_weights.build)
    assert message in str(caught.value)


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("code in a checkpoint ran",))


@pytest.mark.parametrize("content", [{"state": {}}, {"model": [1]}, [1, 2], {"model": Malicious()}])
def test_invalid_checkpoints_are_refused_without_running_code(
    tmp_path: Path, content: object, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.pt"
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"other\.pt"):
        read_checkpoint("test", path)
    assert "ran" not in capsys.readouterr().out


def test_untrained_weights_are_deterministic() -> None:
    first = encoder_weights.build(PRESETS["test"], None).state_dict()
    torch.manual_seed(5)
    second = encoder_weights.build(PRESETS["test"], None).state_dict()
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_test_preset_has_few_parameters(state: dict[str, torch.Tensor]) -> None:
    assert sum(value.numel() for value in state.values()) <= 6_000_000
