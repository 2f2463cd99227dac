"""The motion tokenizer: quantisation, causality, and loading."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from maskmesh.nn.checkpoint import CheckpointError
from tracker_svc.points.motion_tokenizer import LEVELS, MotionTokenizer, Quantizer, load_tokenizer


def velocities(seed: int, points: int = 6) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.3, (15, points, 2)).astype(np.float32)


def small() -> MotionTokenizer:
    torch.manual_seed(4)
    return MotionTokenizer(num_points=6, hidden_dim=32).eval()


def test_codes_cover_all_levels() -> None:
    quantizer = Quantizer(4, LEVELS)
    with torch.no_grad():
        quantizer.project_in.weight.copy_(torch.eye(4))
        quantizer.project_in.bias.zero_()
        quantizer.project_out.weight.copy_(torch.eye(4))
        quantizer.project_out.bias.zero_()
        values = torch.linspace(-6, 6, 400)
        for dimension, levels in enumerate(LEVELS):
            x = torch.zeros(400, 4)
            x[:, dimension] = values
            latents, codes = quantizer(x)
            assert len(set(codes.tolist())) == levels
            assert len(set(latents[:, dimension].tolist())) == levels
            assert latents.abs().max() <= 1
        _, codes = quantizer(torch.randn(20_000, 4) * 3)
    assert codes.min() >= 0
    assert codes.max() < 1920


def test_codes_depend_on_the_past_only() -> None:
    tokenizer, x = small(), velocities(1)
    changed = x.copy()
    changed[10:] = velocities(2)[10:]
    before, after = tokenizer.tokenize(x), tokenizer.tokenize(changed)
    assert list(before.codes[:10]) == list(after.codes[:10])
    assert len(before.codes) == 15
    assert before.energy > 0


def test_the_published_size() -> None:
    assert sum(p.numel() for p in MotionTokenizer().parameters()) == pytest.approx(14.8e6, rel=0.01)


def test_weights_are_loaded_strictly(tmp_path: Path) -> None:
    tokenizer, path = small(), tmp_path / "motion.safetensors"
    state = {key: value.contiguous() for key, value in tokenizer.state_dict().items()}
    save_file(state, path)
    loaded = load_tokenizer(path, torch.device("cpu"))
    assert loaded.num_points == 6
    assert loaded.tokenize(velocities(3)) == tokenizer.tokenize(velocities(3))
    del state["layers.1.norm2.bias"]
    save_file(state, path)
    with pytest.raises(CheckpointError, match=r"layers\.1\.norm2\.bias differ"):
        load_tokenizer(path, torch.device("cpu"))
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="no checkpoint of a motion tokenizer"):
        load_tokenizer(path, torch.device("cpu"))
