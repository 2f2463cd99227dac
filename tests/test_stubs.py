"""The committed stubs match the generator output, and the protos pass buf lint."""

import filecmp
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

from tests.previous_version import extract, previous_version

PROJECT = Path(__file__).parent.parent


def test_stubs_are_current(tmp_path: Path) -> None:
    subprocess.run([sys.executable, PROJECT / "protos" / "generate.py", tmp_path], check=True)
    made = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*_pb2*"))
    committed = sorted(p.relative_to(PROJECT) for p in (PROJECT / "maskmesh").rglob("*_pb2*.py*"))
    assert made == [p for p in committed if "__pycache__" not in p.parts]
    for path in made:
        assert filecmp.cmp(tmp_path / path, PROJECT / path, shallow=False), path


def run_buf(*arguments: str) -> None:
    command = [str(Path(sysconfig.get_path("scripts")) / "buf"), *arguments]
    result = subprocess.run(command, cwd=PROJECT / "protos", capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_protos_pass_lint() -> None:
    run_buf("lint")


def test_protos_are_compatible_with_the_previous_version(tmp_path: Path) -> None:
    """No field, method or value of the protos before the last change is removed or changed."""
    extract(previous_version(), tmp_path, "protos")
    run_buf("breaking", "--against", str(tmp_path / "protos"))


def test_dependencies_are_not_older_than_the_stubs() -> None:
    """protobuf and grpcio refuse stubs of a newer version than their own."""
    stubs = PROJECT / "maskmesh" / "v1"
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    [protobuf] = re.findall(r"Protobuf Python Version: (.+)", (stubs / "types_pb2.py").read_text())
    [grpcio] = re.findall(
        r"GRPC_GENERATED_VERSION = '(.+)'", (stubs / "segmentation_pb2_grpc.py").read_text()
    )
    assert {f"protobuf>={protobuf}", f"grpcio>={grpcio}"} <= set(project["dependencies"])
