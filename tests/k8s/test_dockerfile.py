"""The Dockerfile: hadolint rules, and a build if buildah is installed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.k8s.manifests import K8S

HADOLINT = Path(sys.executable).parent / "hadolint"


def test_dockerfile_passes_hadolint() -> None:
    command = [str(HADOLINT), "--failure-threshold", "style", str(K8S / "Dockerfile")]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr


def test_dockerignore_allows_exactly_the_copied_paths() -> None:
    lines = (K8S / "Dockerfile").read_text().splitlines()
    copied = {
        source
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    }
    ignored = (K8S / "Dockerfile.dockerignore").read_text().splitlines()
    assert copied == {line[1:] for line in ignored if line.startswith("!")}
    assert all((K8S.parent / source).exists() for source in copied)


def test_image_has_each_command(pytestconfig: pytest.Config) -> None:
    base = pytestconfig.getoption("image_base")
    if not base or shutil.which("buildah") is None:
        pytest.skip("buildah is not installed, or --image-base is not set")
    options = ["--storage-driver", "vfs"]
    build = ["buildah", *options, "build", "--isolation", "chroot", "-f", str(K8S / "Dockerfile")]
    subprocess.run(
        [*build, "--build-arg", f"BASE={base}", "-t", "maskmesh-test", str(K8S.parent)], check=True
    )
    container = subprocess.run(
        ["buildah", *options, "from", "maskmesh-test"], capture_output=True, text=True, check=True
    ).stdout.strip()
    for name in ("encoder", "tracker", "gateway"):
        said = subprocess.run(
            ["buildah", *options, "run", "--isolation", "chroot", container, f"maskmesh-{name}", "--help"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "--health-port" in said.stdout
