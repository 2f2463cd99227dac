"""``maskmesh doctor`` on a real mesh, and where there is none."""

import json
from pathlib import Path

from tests.e2e.test_command import maskmesh
from tests.mesh import Mesh


async def test_a_mesh_is_examined_and_measured(mesh: Mesh, tmp_path: Path) -> None:
    said, _ = await maskmesh("doctor", "--endpoint", mesh.endpoint, "--json", cwd=tmp_path)
    found = json.loads(said)
    subjects = {finding["subject"].partition(" ")[0] for finding in found}
    assert subjects >= {"versions", "gateway", "encoder", "tracker", "speed"}
    assert not subjects & {"processor", "memory", "disk"}  # of the machine of the client
    assert not [finding for finding in found if finding["level"] == "problem"]
    [speed] = [finding for finding in found if finding["subject"] == "speed"]
    assert "image_encoder" in speed["text"]


async def test_a_gateway_that_does_not_answer_is_a_problem(tmp_path: Path) -> None:
    _, said = await maskmesh("doctor", "--endpoint", "127.0.0.1:9", cwd=tmp_path, status=1)
    assert "127.0.0.1:9 does not answer" in said
    assert "check the address" in said
