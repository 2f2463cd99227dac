"""``maskmesh batch``: many files over one mesh."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskmesh.media.video_reader import read_frames
from tests.e2e.test_command import maskmesh
from tests.mesh import Mesh
from tools.make_sample import make_clip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two clips and two pictures, a file that is no video, and a text."""
    media = tmp_path / "media"
    (media / "more").mkdir(parents=True)
    make_clip(media / "a.mp4", 6)
    make_clip(media / "more" / "b.mp4", 6, seed=3)
    for index, pixels in enumerate(list(read_frames(media / "a.mp4"))[:2]):
        Image.fromarray(pixels).save(media / "more" / f"{index}.png")
    (media / "broken.mp4").write_bytes(b"\0" * 5000)
    (media / "notes.txt").write_text("nothing to segment")
    return media


async def test_a_batch_continues_after_failures(mesh: Mesh, folder: Path, tmp_path: Path) -> None:
    """Results are complete or absent, failures are listed, and the same command tries only these again."""
    command = [
        "batch", "media", "--endpoint", mesh.endpoint, "--point", "110,262", "--max-frames", "4",
        "--overlay", "-o", "found",
    ]  # fmt: skip
    _, said = await maskmesh(*command, cwd=tmp_path, status=1)
    assert "4 done, 1 failed" in said
    assert "Error: 1 of 5 items failed: found/batch-failures.json" in said
    [failure] = json.loads((tmp_path / "found" / "batch-failures.json").read_text())
    assert failure["file"] == "broken.mp4"
    assert "video" in failure["error"]
    written = sorted(p.relative_to(tmp_path / "found").as_posix() for p in (tmp_path / "found").rglob("*.*"))
    assert written == [
        "a.mp4.masks.json", "a.mp4.overlay.mp4", "batch-failures.json", "more/0.png.masks.json",
        "more/0.png.overlay.png", "more/1.png.masks.json", "more/1.png.overlay.png",
        "more/b.mp4.masks.json", "more/b.mp4.overlay.mp4",
    ]  # fmt: skip
    content = json.loads((tmp_path / "found" / "more" / "b.mp4.masks.json").read_text())
    assert content["source"] == "more/b.mp4"
    assert [frame["frame_index"] for frame in content["frames"]] == list(range(4))
    assert len(list(read_frames(tmp_path / "found" / "more" / "b.mp4.overlay.mp4"))) == 4
    with Image.open(tmp_path / "found" / "more" / "0.png.overlay.png") as drawn:
        assert (np.asarray(drawn) != np.asarray(Image.open(folder / "more" / "0.png"))).any()

    make_clip(folder / "broken.mp4", 4)
    _, said = await maskmesh(*command, cwd=tmp_path)
    assert "1 done, 4 done before" in said
    assert not (tmp_path / "found" / "batch-failures.json").exists()
    _, said = await maskmesh(*command, cwd=tmp_path)
    assert "5 done before" in said


async def test_prompts_of_each_file(mesh: Mesh, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.csv").write_text(
        'file,frame,object,points,box\na.mp4,2,5,"530,185",\nmore/*.png,,,,"60,212,160,312"\n'
        'more/1.png,,2,"530,185",\nlost.mp4,,,"1,1",\n'
    )
    _, said = await maskmesh(
        "batch", "media", "--endpoint", mesh.endpoint, "--prompts", "prompts.csv", cwd=tmp_path
    )
    assert "3 done, 2 without prompts" in said
    assert "line 5: lost.mp4: there is no such file" in said
    clip = json.loads((folder / "a.mp4.masks.json").read_text())
    assert [frame["frame_index"] for frame in clip["frames"]] == [2, 3, 4, 5]
    assert {o["obj_id"] for frame in clip["frames"] for o in frame["objects"]} == {5}
    for index, obj_ids in ((0, [1]), (1, [1, 2])):
        picture = json.loads((folder / "more" / f"{index}.png.masks.json").read_text())
        assert [o["obj_id"] for o in picture["frames"][0]["objects"]] == obj_ids


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "at least one --point, --box or --concept, or --prompts is needed"),
        (["--prompts", "wrong.csv"], "--prompts wrong.csv: the first line has the unknown column"),
        (["--prompts", "other.csv"], "--prompts other.csv names no file of the folder"),
    ],
)
async def test_wrong_usage(folder: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "wrong.csv").write_text("name,points\n")
    (tmp_path / "other.csv").write_text('file,points\nother.mp4,"1,1"\n')
    _, said = await maskmesh("batch", "media", *arguments, cwd=tmp_path, status=2)
    assert message in said


async def test_a_folder_without_media(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    _, said = await maskmesh("batch", "media", "--point", "1,1", cwd=tmp_path, status=2)
    assert "media has no videos and no images" in said
