"""What ``maskmesh models`` tells of checkpoint files."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from maskmesh.cli.main import main
from maskmesh.nn.checkpoint import bundled_weights


def run(*arguments: object, status: int = 0) -> str:
    result = CliRunner().invoke(main, ["models", *map(str, arguments)])
    assert result.exit_code == status, result.output
    return result.output


@pytest.fixture
def micro() -> Path:
    path = bundled_weights("micro")
    assert path is not None
    return path


def test_info_names_the_model_in_any_container(micro: Path, tmp_path: Path) -> None:
    found = json.loads(run("info", micro, "--json"))
    assert found["preset"] == "micro"
    assert found["problem"] == found["official"] == ""
    copy = tmp_path / "copy.pt"
    torch.save({"model": load_file(micro)}, copy)
    other = json.loads(run("info", copy, "--json"))
    assert other["weights_digest"] == found["weights_digest"]
    assert other["sha256"] != found["sha256"]
    assert "model:       micro" in run("info", micro)


def test_verify_finds_what_is_wrong(micro: Path, tmp_path: Path) -> None:
    assert "fits micro" in run("verify", micro)
    assert "not of sam2.1-tiny" in run("verify", micro, "--model", "sam2.1-tiny", status=1)
    weights = load_file(micro)
    name = next(iter(weights))
    broken = tmp_path / "broken.safetensors"
    save_file({**weights, name: torch.full_like(weights[name], torch.nan)}, broken)
    assert "1 tensors have values that are not finite" in run("verify", broken, status=1)
    save_file({key: value for key, value in weights.items() if key != name}, broken)
    assert f"missing: {name}" in run("verify", broken, status=1)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(micro.read_bytes()[:-1000])
    assert "cut.safetensors is not a complete safetensors file" in run("verify", cut, status=1)
    text = tmp_path / "text.pt"
    text.write_text("no checkpoint")
    assert "cannot be read" in run("info", text, status=1)
