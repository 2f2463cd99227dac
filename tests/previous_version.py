"""The commit before the last change of the protos, which compatibility is tested against."""

import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=True).stdout


def extract(commit: str, folder: Path, *paths: str) -> None:
    """Write files of a commit to a folder."""
    with tarfile.open(fileobj=BytesIO(git("archive", "--format=tar", commit, *paths))) as files:
        files.extractall(folder, filter="data")


def previous_version() -> str:
    """Skips the test if the checkout lacks the history."""
    try:
        changed = git("rev-list", "-1", "HEAD", "--", "protos/maskmesh").decode().strip()
        return git("rev-parse", "--verify", f"{changed}^").decode().strip()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("the previous version is not in this checkout")
