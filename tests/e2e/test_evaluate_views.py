"""``maskmesh evaluate --erase`` and ``--points``."""

import json
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from maskmesh.evaluation.drawn_clips import drawn_clips
from tests.e2e.test_command import maskmesh
from tests.mesh import Mesh


async def test_erased_holes_are_scored(mesh: Mesh, tmp_path: Path) -> None:
    frames, masks = tmp_path / "frames", tmp_path / "masks"
    frames.mkdir()
    masks.mkdir()
    [pan, *_] = drawn_clips(12)
    shape = np.zeros((100, 100), np.uint8)
    shape[30:70, 40:60] = 255
    for index, pixels in enumerate(pan.frames):
        PillowImage.fromarray(pixels).save(frames / f"{index:05}.png")
    PillowImage.fromarray(shape).save(masks / "00000.png")
    for name, arguments in (("moving", ("--masks", masks)), ("box", ())):
        path = tmp_path / f"{name}.json"
        output, _ = await maskmesh(
            *("evaluate", "--endpoint", mesh.endpoint, "--images", frames, "--erase", *arguments),
            *("--json", path),
            cwd=tmp_path,
        )
        [scores] = json.loads(path.read_text())["scores"]
        assert scores["clip"] == tmp_path.name
        assert scores["psnr"] > scores["psnr_alone"] > 5
        assert scores["flicker"] < scores["flicker_alone"]
        assert 0 <= scores["invented"] < 0.8
        assert "PSNR" in output


async def test_points_are_scored(mesh: Mesh, tmp_path: Path) -> None:
    path = tmp_path / "points.json"
    output, _ = await maskmesh(
        "evaluate", "--endpoint", mesh.endpoint, "--points", "--json", path, cwd=tmp_path
    )
    scores = {each["clip"]: each for each in json.loads(path.read_text())["scores"]}
    assert scores["pan"]["average_jaccard"] > 0.95
    assert all(each["average_jaccard"] > 0.75 for each in scores.values())
    assert "average Jaccard" in output


async def test_folders_are_needed(tmp_path: Path) -> None:
    _, said = await maskmesh("evaluate", "--images", tmp_path, cwd=tmp_path, status=2)
    assert "--images and --masks are needed" in said
