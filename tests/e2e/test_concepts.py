"""Concepts on single images with a small untrained SAM 3, through a mesh of real processes."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
import torch
from PIL import Image

from encoder_svc.model import config as encoder_config
from encoder_svc.model import weights as encoder_weights
from encoder_svc.model.config import SYMMETRIC
from encoder_svc.model.preprocess import preprocess
from maskmesh import (
    AsyncClient,
    Box,
    Concept,
    InvalidPrompt,
    LowResLogits,
    MaskFormat,
    MaskOptions,
    RleMask,
    telemetry,
)
from maskmesh.cli.mesh.local_mesh import MeshOptions
from maskmesh.media.video_reader import read_frames
from maskmesh.telemetry import StageRecorder
from maskmesh.trace_report.attribution import attribute_calls, unnamed_share
from maskmesh.trace_report.report import CALLS
from tests.e2e.test_command import maskmesh
from tests.e2e.test_split import assert_equal, split, unsplit
from tests.e2e.test_traces import assert_warm_up_is_cold
from tests.mesh import Mesh, running_mesh
from tracker_svc.compute.concepts import ConceptFinder
from tracker_svc.compute.step import Frame
from tracker_svc.compute.tokenizer import PhraseTokenizer
from tracker_svc.model import config as tracker_config
from tracker_svc.model import weights as tracker_weights

PRESET = "sam3-test"
SIZE = encoder_config.PRESETS[PRESET].image_size
LOGITS = MaskOptions(MaskFormat.LOW_RES_LOGITS)
CONCEPTS = [
    Concept("red cup"),
    Concept.of("bus", [Box(100, 200, 180, 300)]),
    Concept.of("", [(500, 150, 560, 220), (10, 10, 60, 60, 0)]),
]

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    async with running_mesh(tmp_path_factory.mktemp("traces"), MeshOptions(model=PRESET)) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def client(mesh: Mesh) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(mesh.endpoint) as connected:
        yield connected


@pytest.fixture(scope="module")
def picture(clip: Path) -> np.ndarray:
    return next(iter(read_frames(clip)))


async def test_split_equals_unsplit(client: AsyncClient, picture: np.ndarray) -> None:
    """Words, words with a box, and boxes: bit for bit, with one batch for the concepts."""
    found = await client.segment_concepts(picture, CONCEPTS, max_instances=3, mask_options=LOGITS)
    encoder = encoder_weights.build(encoder_config.PRESETS[PRESET], None)
    model = tracker_weights.build(tracker_config.PRESETS[PRESET], None)
    assert model.detector is not None
    finder = ConceptFinder(model.detector, PhraseTokenizer.of_bytes(context_length=32))
    with torch.inference_mode():
        pixels = torch.from_numpy(picture.copy())
        image = preprocess(pixels, SIZE, torch.device("cpu"), torch.float32, SYMMETRIC)
        frame = Frame(encoder(image), picture.shape[1], picture.shape[0])
    expected = list(finder.detect(frame, CONCEPTS, threshold=0.5, max_instances=3, recorder=StageRecorder()))
    for here, there in zip(found.concepts, expected, strict=True):
        assert len(here.instances) == 3
        assert here.presence == pytest.approx(there.presence, abs=1e-6)
        assert [i.score for i in here.instances] == pytest.approx(there.scores, abs=1e-6)
        assert there.masks is not None
        for instance, box, mask in zip(here.instances, there.boxes, there.masks, strict=True):
            assert isinstance(instance.mask, LowResLogits)
            assert torch.equal(torch.from_numpy(instance.mask.values.copy()), mask)
            assert instance.box.x1 == pytest.approx(box.x1, abs=1e-3)


async def test_masks_have_the_requested_form(client: AsyncClient, picture: np.ndarray) -> None:
    [concept] = (await client.segment_concepts(picture, "red cup", max_instances=2)).concepts
    for instance in concept.instances:
        assert isinstance(instance.mask, RleMask)
        assert instance.mask.decode().shape == picture.shape[:2]
    exclusive = MaskOptions(non_overlapping=True)
    [concept] = (
        await client.segment_concepts(picture, ["red cup"], max_instances=2, mask_options=exclusive)
    ).concepts
    first, second = (i.mask.decode() for i in concept.instances if isinstance(i.mask, RleMask))
    assert not (first & second).any()


async def test_threshold_and_limit(client: AsyncClient, picture: np.ndarray) -> None:
    [all_of_them] = (await client.segment_concepts(picture, ["bus"], omit_masks=True)).concepts
    scores = [instance.score for instance in all_of_them.instances]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) > 3
    assert min(scores) > 0.5
    assert all(instance.mask is None for instance in all_of_them.instances)
    between = (scores[1] + scores[2]) / 2
    [few] = (await client.segment_concepts(picture, ["bus"], score_threshold=between)).concepts
    assert [instance.score for instance in few.instances] == pytest.approx(scores[:2], abs=1e-5)
    [none] = (await client.segment_concepts(picture, ["bus"], score_threshold=1)).concepts
    assert not none.instances


async def test_phrases_that_are_too_long_are_refused(client: AsyncClient, picture: np.ndarray) -> None:
    """The untrained model's tokens are bytes: 30 fit beside the start and the end."""
    await client.segment_concepts(picture, ["x" * 30], omit_masks=True)
    with pytest.raises(InvalidPrompt, match="has 33 tokens, at most 32 fit") as caught:
        await client.segment_concepts(picture, ["bus", "x" * 31])
    assert caught.value.metadata["field"] == "concepts[1].phrase"


async def test_warm_up_makes_all_cold_calls(mesh: Mesh, client: AsyncClient) -> None:
    others = {*telemetry.TAPIR_STAGES, *telemetry.ERASE_STAGES}
    await assert_warm_up_is_cold(mesh, client, set(telemetry.STAGES) - others)


async def test_every_stage_has_a_span(mesh: Mesh, client: AsyncClient, picture: np.ndarray) -> None:
    """Stages that nobody needs are not computed: the mask head without masks, the words of before."""
    with_masks = await client.segment_concepts(picture, ["blue hat"], max_instances=1)
    without = await client.segment_concepts(picture, ["blue hat"], omit_masks=True)
    traces = await mesh.complete_traces([with_masks.trace_id, without.trace_id])
    first, second = (
        [s.name for s in traces[found.trace_id].spans.values()] for found in (with_masks, without)
    )
    always = {
        telemetry.DETECTOR_NECK,
        telemetry.EXEMPLAR_ENCODER,
        telemetry.DETECTOR_ENCODER,
        telemetry.DETECTOR_DECODER,
    }
    assert {*always, telemetry.TEXT_ENCODER, telemetry.MASK_HEAD} <= set(first)
    assert first.count(telemetry.DETECTOR_NECK) == 2
    assert always <= set(second)
    assert not {telemetry.TEXT_ENCODER, telemetry.MASK_HEAD, telemetry.TRACKER_NECK} & set(second)
    assert second.count(telemetry.DETECTOR_NECK) == 1


async def test_time_outside_all_spans_is_small(mesh: Mesh, client: AsyncClient, picture: np.ndarray) -> None:
    """As for clicks: the wait of a call lies on stages, waits and transfers."""
    ids = [(await client.segment_concepts(picture, [f"cup {i}"])).trace_id for i in range(5)]
    traces = await mesh.complete_traces(ids)
    calls = attribute_calls(list(traces.values()), CALLS)
    assert len(calls) == len(ids)
    assert unnamed_share(calls) < 0.1


async def test_clicked_objects_are_tracked(client: AsyncClient, clip: Path) -> None:
    """Sessions track clicked objects with SAM 3 as with SAM 2.1, bit for bit."""
    pictures = list(read_frames(clip))[:4]
    assert_equal(await split(client, pictures), unsplit(pictures, PRESET, SIZE, None))


async def test_command_finds_concepts(mesh: Mesh, picture: np.ndarray, tmp_path: Path) -> None:
    """By words, and by a box with a counterexample; the overlay and the masks have all of them."""
    Image.fromarray(picture).save(tmp_path / "picture.png")
    _, said = await maskmesh(
        "segment", "picture.png", "--endpoint", mesh.endpoint, "--score-threshold", "0.9",
        "--concept", "red cup", "--concept", "bus", "--concept-box", "100,200,180,300",
        "--concept-box", "10,10,60,60,0", "-o", "found.png", "--masks", "found.json",
        cwd=tmp_path,
    )  # fmt: skip
    content = json.loads((tmp_path / "found.json").read_text())
    objects = content["frames"][0]["objects"]
    assert {o["concept"] for o in objects} == {"red cup", "bus"}
    assert [o["obj_id"] for o in objects] == list(range(1, len(objects) + 1))
    assert all(o["score"] > 0.9 and len(o["box"]) == 4 for o in objects)
    assert "sam3-test is untrained" in said
    for phrase in ("red cup", "bus"):
        count = sum(o["concept"] == phrase for o in objects)
        assert f"{phrase}: {count} found" in said
    with Image.open(tmp_path / "found.png") as overlay:
        drawn = np.asarray(overlay)
    assert drawn.shape == picture.shape
    assert (drawn != picture).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--concept", "cup", "--point", "1,1"], "cannot be combined"),
        (["--concept-box", "1,2,3"], "is not x0,y0,x1,y1[,label]"),
        (["--concept-box", "1,2,3,4,5"], "a label is 1 or 0, not 5"),
        ([], "at least one --point, --box or --concept is needed"),
    ],
)
async def test_command_checks_concepts(tmp_path: Path, arguments: list[str], message: str) -> None:
    Image.fromarray(np.full((60, 90, 3), 80, np.uint8)).save(tmp_path / "picture.png")
    _, said = await maskmesh("segment", "picture.png", *arguments, cwd=tmp_path, status=2)
    assert message in said


async def test_commands_follow_concepts(mesh: Mesh, clip: Path, tmp_path: Path) -> None:
    """In a video and in a stream, beside a clicked object; overlay and masks have concept and score."""
    arguments = [
        "--endpoint", mesh.endpoint, "--max-frames", "6", "--point", "110,262", "--concept", "red cup",
        "--frame", "1", "--concept", "bus", "--concept-box", "100,200,180,300",
    ]  # fmt: skip
    _, said = await maskmesh(
        "segment", clip, *arguments, "--hotstart-delay", "2", "-o", "found.mp4", "--masks", "found.json",
        cwd=tmp_path,
    )  # fmt: skip
    content = json.loads((tmp_path / "found.json").read_text())
    assert content["concepts"] == [
        {"concept_id": 1, "phrase": "red cup"},
        {"concept_id": 2, "phrase": "bus"},
    ]
    assert [frame["frame_index"] for frame in content["frames"]] == list(range(6))
    for frame in content["frames"]:
        found = {o.get("concept_id"): o for o in frame["objects"]}
        assert None in found  # the clicked object
        assert 0.5 < found[1]["concept_score"] < 1
    assert "red cup, frame 0: 1 found in" in said
    assert "bus, frame 1: " in said
    assert "red cup: 1 object in 6 frames" in said
    assert len(list(read_frames(tmp_path / "found.mp4"))) == 6

    _, said = await maskmesh(
        "stream", clip, *arguments, "-o", "live.mp4", "--masks", "live.json", cwd=tmp_path
    )
    lines = [json.loads(line) for line in (tmp_path / "live.json").read_text().splitlines()]
    assert {o.get("concept_id") for o in lines[-1]["objects"]} == {None, 1, 2}
    assert "6 frames" in said


@pytest.mark.parametrize("video", [False, True])
async def test_evaluation_by_a_phrase(mesh: Mesh, clip: Path, tmp_path: Path, *, video: bool) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for index, pixels in enumerate(list(read_frames(clip))[:3]):
        Image.fromarray(pixels).save(tmp_path / "images" / f"{index}.png")
        labels = np.zeros(pixels.shape[:2], np.uint8)
        labels[200:300, 60:160], labels[100:200, 480:580] = 1, 2
        Image.fromarray(labels).save(tmp_path / "masks" / f"{index}.png")
    output, _ = await maskmesh(
        "evaluate", "--images", "images", "--masks", "masks", "--endpoint", mesh.endpoint,
        "--concept", "red cup", "--json", "scores.json", *(["--video"] if video else []),
        cwd=tmp_path,
    )  # fmt: skip
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["count"] == (2 if video else 6)
    assert 0 <= scores["recall"] <= scores["iou"] * 2 <= 2
    assert f"{scores['iou']:.3f}" in output
    assert "matched one to one" in output
