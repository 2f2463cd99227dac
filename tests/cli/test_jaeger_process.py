"""A Jaeger that the command starts, and that does not answer."""

import os
import time
from pathlib import Path

import pytest

from maskmesh.cli.mesh import jaeger
from maskmesh.cli.mesh.service_process import MeshError


async def test_an_executable_that_serves_nothing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last lines are in the error, and its own processes end with it."""
    script = tmp_path / "jaeger"
    script.write_text("#!/bin/sh\necho waiting for a disk >&2\nsleep 60\n")
    os.chmod(script, 0o755)
    monkeypatch.setattr(jaeger, "START_SECONDS", 0.5)
    monkeypatch.setattr(jaeger, "UI_PORT", 9)  # of discard, where nothing listens
    start = time.monotonic()
    with pytest.raises(MeshError, match=r"does not answer(.|\n)*waiting for a disk"):
        async with jaeger.traced_to(str(script)):
            pass
    assert time.monotonic() - start < 30
