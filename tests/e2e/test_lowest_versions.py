"""The lowest versions of the dependencies that pyproject.toml allows work together."""

import asyncio
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mesh import Mesh
from tools.make_sample import make_clip

PROJECT = Path(__file__).parents[2]

# torch is too large to be installed for a test: its installed version is used.
EXTRAS = "telemetry,cli,server,encoder,tracker,gateway,evaluate"
TOO_LARGE = "torch"


@pytest.fixture(scope="module")
def lowest_python() -> Iterator[Path]:
    """The interpreter of an environment with the lowest versions."""
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder) / "lowest"
        uv = [sys.executable, "-m", "uv", "--quiet"]
        subprocess.run([*uv, "venv", "--python", sys.executable, str(environment)], check=True)
        python = environment / "bin" / "python"
        install = [*uv, "pip", "install", "--python", str(python), "--resolution", "lowest-direct"]
        overrides = Path(folder) / "overrides.txt"
        overrides.write_text(f"{TOO_LARGE} ; python_version < '3'\n")
        subprocess.run([*install, "--override", str(overrides), f"{PROJECT}[{EXTRAS}]"], check=True)
        # After the environment's own packages come those of this one.
        packages = next((environment / "lib").glob("python*")) / "site-packages"
        (packages / "torch.pth").write_text(sysconfig.get_path("purelib") + "\n")
        yield python


async def run(*command: object, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=cwd,
        env={**environment, "MASKMESH_TRACE_DIR": "traces", "OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    return output


async def test_lowest_versions_are_those_of_pyproject(lowest_python: Path, tmp_path: Path) -> None:
    script = "import importlib.metadata as m; print(*(m.version(n) for n in ('click', 'protobuf', 'av')))"
    versions = (await run(lowest_python, "-c", script, cwd=tmp_path)).split()
    bounds = (PROJECT / "pyproject.toml").read_text()
    for name, version in zip(("click", "protobuf", "av"), versions, strict=True):
        assert f'"{name}>={version.removesuffix(".0").removesuffix(".0")}' in bounds


async def test_client_and_command_of_the_lowest_versions(
    lowest_python: Path, mesh: Mesh, tmp_path: Path
) -> None:
    clip = tmp_path / "clip.mp4"
    make_clip(clip, 4)
    arguments = ("segment", clip, "--endpoint", mesh.endpoint, "--point", "110,262")
    await run(
        lowest_python, "-m", "maskmesh.cli", *arguments, "-o", "o.mp4", "--masks", "m.json", cwd=tmp_path
    )
    assert len(json.loads((tmp_path / "m.json").read_text())["frames"]) == 4


async def test_services_of_the_lowest_versions(lowest_python: Path, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    make_clip(clip, 4)
    arguments = ("segment", clip, "--point", "110,262", "--masks", "m.json")
    await run(lowest_python, "-m", "maskmesh.cli", *arguments, cwd=tmp_path)
    assert len(json.loads((tmp_path / "m.json").read_text())["frames"]) == 4
    assert "memory_attention" in await run(
        lowest_python, "-m", "maskmesh.cli", "report", "traces", cwd=tmp_path
    )


BLOCKED = """
import os, signal, sys
import psutil  # has a part of its own for each platform
for name in ("fcntl", "resource", "termios", "pwd", "grp", "pty"):
    sys.modules[name] = None
for name in ("SIGKILL", "SIGHUP", "SIGSTOP", "SIGUSR1"):
    delattr(signal, name)
for name in ("fork", "killpg", "getuid"):
    delattr(os, name)
import maskmesh, maskmesh.cli.main, maskmesh.evaluation.clips, maskmesh.trace_report.report
from maskmesh.client import sync_client
"""


def test_client_and_command_need_no_name_of_one_platform() -> None:
    """Windows lacks these modules, signals and functions."""
    subprocess.run([sys.executable, "-c", BLOCKED], check=True)
