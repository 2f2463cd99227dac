"""The committed stubs are what the generator makes of the protos, and the protos are in order."""

import filecmp
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent


def test_stubs_are_fresh(tmp_path: Path) -> None:
    subprocess.run([sys.executable, PROJECT / "protos" / "generate.py", tmp_path], check=True)
    made = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*_pb2*"))
    committed = sorted(p.relative_to(PROJECT) for p in (PROJECT / "maskmesh").rglob("*_pb2*.py*"))
    assert made == [p for p in committed if "__pycache__" not in p.parts]
    for path in made:
        assert filecmp.cmp(tmp_path / path, PROJECT / path, shallow=False), path


@pytest.mark.skipif(shutil.which("buf") is None, reason="buf is not installed")
def test_protos_are_clean() -> None:
    result = subprocess.run(
        ["buf", "lint"], cwd=PROJECT / "protos", capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
