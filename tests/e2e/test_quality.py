"""The quality of the embedded model in the mesh: masks of single images and tracking of objects."""

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from maskmesh import AsyncClient, FrameMasks
from maskmesh.cli.main import main
from maskmesh.cli.segment.truth import Fit, fit, read_truth
from maskmesh.evaluation.clips import evaluate_clip
from maskmesh.evaluation.images import evaluate_images
from maskmesh.media.video_reader import read_frames
from maskmesh.nn.checkpoint import bundled_weights
from tests.golden import DATA, needs_data
from tests.mesh import Mesh
from tools.make_sample import CLICKS, FOLDER
from tools.table_clip import clip as table
from tools.train_micro.data.sources import VALIDATION_NAMES, load_sources
from tools.train_micro.evaluate import held_out_images
from tools.train_micro.scenes.suites import SUITES, Suites

# Lower bounds for the bundled weights; MODEL_CARD.md has the measured figures.  The targets are higher: a J
# of 0.70 on clips, and of 0.85 on every object of the sample clip.
CLICK_IOU = 0.60
BOX_IOU = 0.78
CLIP_J = 0.5
SAMPLE_IOU = {1: 0.94, 2: 0.92, 3: 0.45}
TABLE_IOU = {table.MUG: 0.85, table.PEAR: 0.85}

Clicks = Mapping[int, tuple[int, int]]


async def test_bundled_model_is_trained(client: AsyncClient) -> None:
    async with client.session() as session:
        assert (session.model.name, session.model.trained) == ("micro", True)


def test_bundled_weights_are_small_and_name_their_sources() -> None:
    weights = bundled_weights("micro")
    assert weights is not None
    assert weights.stat().st_size <= 12_000_000
    state = load_file(weights)
    assert sum(value.numel() for value in state.values()) <= 6_000_000
    assert {value.dtype for value in state.values()} == {torch.float16}
    with safe_open(weights, "pt") as opened:
        assert "ECSSD" in opened.metadata()["notice"]
    card = weights.with_name("MODEL_CARD.md").read_text()
    assert "ECSSD" in card
    assert "@" not in card
    assert weights.with_name("NOTICE").is_file()


async def track(client: AsyncClient, video: str, truth: str, clicks: Clicks) -> dict[int, Fit]:
    """Track objects of a sample clip from a click on each, and compare the masks with the true ones."""
    frames: list[FrameMasks] = []
    async with client.session() as session:
        await session.append_video(FOLDER / video)
        for obj_id, point in clicks.items():
            await session.add_prompt(0, obj_id, points=[point])
        async for found in session.propagate():
            frames.append(found)
    fits = fit(frames, read_truth(FOLDER / truth))
    assert set(fits) == set(clicks)
    return fits


async def test_objects_of_the_sample_clip_are_tracked(client: AsyncClient) -> None:
    fits = await track(client, "clip.mp4", "masks.json", CLICKS)
    for obj_id, fitted in fits.items():
        assert fmean(fitted.ious) >= SAMPLE_IOU[obj_id], obj_id
        # At the image border a few pixels decide whether the object is visible: one frame may differ.
        assert fitted.out_of_sight - fitted.right <= 1, obj_id
    assert fits[3].out_of_sight > 20


async def test_objects_on_the_table_are_tracked(client: AsyncClient) -> None:
    fits = await track(client, "table.mp4", "table_masks.json", table.CLICKS)
    for obj_id, bound in TABLE_IOU.items():
        assert fmean(fits[obj_id].ious) >= bound, obj_id


@needs_data
async def test_held_out_images(client: AsyncClient) -> None:
    scores = await evaluate_images(client, held_out_images(DATA / "ecssd"))
    assert len(scores) == len(VALIDATION_NAMES)
    assert fmean(s.click for s in scores) >= CLICK_IOU
    assert fmean(s.box for s in scores) >= BOX_IOU


@needs_data
async def test_composed_clips(client: AsyncClient) -> None:
    suites = Suites(load_sources(DATA / "ecssd", VALIDATION_NAMES))
    scores = []
    for clip in (clip for suite in SUITES for clip in suites.clips(suite, 2)):
        scores += await evaluate_clip(client, clip.name, clip.frames)
    assert fmean(s.j for s in scores) >= CLIP_J


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five frames of the sample clip, with palette masks and with black and white masks."""
    truth = read_truth(FOLDER / "masks.json")
    for name in ("images", "numbers", "white"):
        (tmp_path / name).mkdir()
    for index, pixels in zip(range(5), read_frames(FOLDER / "clip.mp4"), strict=False):
        labels = np.zeros(pixels.shape[:2], dtype=np.uint8)
        for obj_id, mask in truth[index].items():
            labels[mask.decode()] = obj_id
        Image.fromarray(pixels).save(tmp_path / "images" / f"{index:05d}.jpg", quality=95)
        with_palette = Image.fromarray(labels, mode="P")
        with_palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
        with_palette.save(tmp_path / "numbers" / f"{index:05d}.png")
        Image.fromarray(np.where(labels == 1, 255, 0).astype(np.uint8)).save(
            tmp_path / "white" / f"{index:05d}.png"
        )
    return tmp_path


def evaluate(mesh: Mesh, *arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["evaluate", "--endpoint", mesh.endpoint, *map(str, arguments)])
    return result.exit_code, result.output


def test_evaluate_command_on_images(mesh: Mesh, folder: Path) -> None:
    code, output = evaluate(
        mesh, "--images", folder / "images", "--masks", folder / "white", "--json", folder / "figures.json"
    )
    assert code == 0, output
    figures = json.loads((folder / "figures.json").read_text())
    assert figures["count"] == len(figures["scores"]) == 5
    assert figures["box"] > BOX_IOU
    assert f"{figures['box']:.3f}" in output
    assert f"{figures['click']:.3f}" in output


def test_evaluate_command_on_a_clip(mesh: Mesh, folder: Path) -> None:
    code, output = evaluate(
        mesh, "--video", "--images", folder / "images", "--masks", folder / "numbers",
        "--json", folder / "figures.json",
    )  # fmt: skip
    assert code == 0, output
    figures = json.loads((folder / "figures.json").read_text())
    assert [score["obj_id"] for score in figures["scores"]] == [1, 2, 3]
    assert figures["j"] > 0.85
    assert figures["sight"] == 1
    assert f"{figures['f']:.3f}" in output


@pytest.mark.parametrize("prompt", ["box", "mask"])
def test_evaluate_command_on_clips_in_folders(mesh: Mesh, folder: Path, prompt: str) -> None:
    for name in ("one", "two"):
        (folder / "clips" / name).mkdir(parents=True)
        (folder / "clips" / name / "frames").symlink_to(folder / "images")
        (folder / "clips" / name / "masks").symlink_to(folder / "numbers")
    code, output = evaluate(
        mesh, "--video", "--images", folder / "clips", "--masks", folder / "clips", "--prompt", prompt,
        "--json", folder / "figures.json",
    )  # fmt: skip
    assert code == 0, output
    figures = json.loads((folder / "figures.json").read_text())
    assert [row["name"] for row in figures["sets"]] == ["one", "two"]
    assert (figures["name"], figures["count"]) == ("all", 6)
    assert figures["sets"][0]["j"] == figures["sets"][1]["j"] == pytest.approx(figures["j"])
    assert figures["j"] > 0.85
    assert figures["j_and_f"] == pytest.approx((figures["j"] + figures["f"]) / 2)


def test_evaluate_command_corrects_masks(mesh: Mesh, folder: Path) -> None:
    for path in sorted((folder / "images").iterdir())[1:]:
        path.unlink()
    code, output = evaluate(
        mesh, "--images", folder / "images", "--masks", folder / "numbers", "--clicks", "3",
        "--json", folder / "figures.json",
    )  # fmt: skip
    assert code == 0, output
    figures = json.loads((folder / "figures.json").read_text())
    assert all(len(score["corrected"]) == 2 for score in figures["scores"])
    assert figures["clicks_3"] > 0.7
    assert "3 clicks" in output


def test_evaluate_refuses_prompts_of_the_other_kind(mesh: Mesh, folder: Path) -> None:
    folders = ("--images", folder / "images", "--masks", folder / "numbers")
    for arguments, message in (
        (("--prompt", "box"), "--prompt is for --video"),
        (("--video", "--clicks", "2"), "--clicks is for images"),
    ):
        code, output = evaluate(mesh, *folders, *arguments)
        assert code == 2
        assert message in output


def test_evaluate_refuses_masks_of_another_size(mesh: Mesh, folder: Path) -> None:
    Image.new("L", (10, 10)).save(folder / "white" / "00003.png")
    code, output = evaluate(mesh, "--images", folder / "images", "--masks", folder / "white")
    assert code != 0
    assert "00003.png and 00003.jpg differ in size" in output
