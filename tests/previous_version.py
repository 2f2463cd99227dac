"""The commit before the last change of the protos, which compatibility is tested against."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=True).stdout


def previous_version() -> str:
    """Skips the test if the checkout lacks the history."""
    try:
        changed = git("rev-list", "-1", "HEAD", "--", "protos/maskmesh").decode().strip()
        return git("rev-parse", "--verify", f"{changed}^").decode().strip()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("the previous version is not in this checkout")
