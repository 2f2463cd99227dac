"""The model split over two services equals the model in one process, bit for bit.

Both use the same threads, the same batch size and float32.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from encoder_svc.model import config as encoder_config
from encoder_svc.model import weights as encoder_weights
from encoder_svc.model.preprocess import preprocess
from maskmesh import AsyncClient, LowResLogits, MaskFormat, MaskOptions, Point, Prompt
from maskmesh.cli.mesh.local_mesh import MeshOptions
from maskmesh.media.video_reader import read_frames
from maskmesh.nn.checkpoint import bundled_weights
from maskmesh.telemetry import StageRecorder
from tests.golden import GOLDEN, IMAGE_SIZE, needs_data, tiny_state
from tests.mesh import running_mesh
from tracker_svc.compute.step import Frame, Step
from tracker_svc.compute.tracker import Tracker
from tracker_svc.memory.memory_bank import MemoryBank
from tracker_svc.memory.tracked_object import TrackedObject
from tracker_svc.model import config as tracker_config
from tracker_svc.model import weights as tracker_weights

FRAMES = 8
PROMPTS = {
    1: Prompt.of(points=[(110, 262)]),
    2: Prompt([Point(530, 185), Point(10, 10, False)]),
}


def unsplit(
    pictures: list[np.ndarray], preset: str, image_size: int, state: dict[str, Tensor] | None
) -> list[dict[int, Tensor]]:
    """The logits of each frame and object, with encoder and tracker in this process."""
    encoder = encoder_weights.build(replace(encoder_config.PRESETS[preset], image_size=image_size), state)
    model = tracker_weights.build(replace(tracker_config.PRESETS[preset], image_size=image_size), state)
    tracker, recorder = Tracker(model), StageRecorder()

    def frame(pixels: np.ndarray) -> Frame:
        with torch.inference_mode():
            host, cpu = torch.from_numpy(pixels.copy()), torch.device("cpu")
            image = preprocess(host, image_size, cpu, torch.float32, encoder.normalization)
            return Frame(encoder(image), pixels.shape[1], pixels.shape[0])

    objects = [TrackedObject(obj_id, MemoryBank(obj_id, rules=model.memory_rules)) for obj_id in PROMPTS]
    first = frame(pictures[0])
    for obj in objects:
        prompt = PROMPTS[obj.obj_id]
        state_ = tracker.prompt(obj, 0, prompt, first, clear_previous=False, recorder=recorder)
        obj.bank.prompt(0, state_)
    tracker.memorize_prompted(Step(objects, 0, first, recorder))
    logits = []
    for index, pixels in enumerate(pictures):
        step = Step(objects, index, frame(pixels), recorder)
        [states] = tracker.track([step])
        tracker.memorize_tracked([step])
        logits.append({obj_id: s.low_res_masks[0] for obj_id, s in states.items()})
    return logits


async def split(client: AsyncClient, pictures: list[np.ndarray]) -> list[dict[int, Tensor]]:
    """The logits of each frame and object from the mesh."""
    async with client.session() as session:
        await session.append_frames(pictures)
        for obj_id, prompt in PROMPTS.items():
            await session.add_prompt(0, obj_id, points=prompt.points)
        logits = []
        async for found in session.propagate(mask_options=MaskOptions(MaskFormat.LOW_RES_LOGITS)):
            masks = {i: o.mask for i, o in found.objects.items()}
            logits.append(
                {
                    i: torch.from_numpy(m.values.copy())
                    for i, m in masks.items()
                    if isinstance(m, LowResLogits)
                }
            )
    return logits


def assert_equal(actual: list[dict[int, Tensor]], expected: list[dict[int, Tensor]]) -> None:
    assert len(actual) == len(expected)
    for index, (here, there) in enumerate(zip(actual, expected, strict=True)):
        assert here.keys() == there.keys()
        for obj_id, logits in here.items():
            assert torch.equal(logits, there[obj_id]), f"frame {index}, object {obj_id}"


async def test_split_of_the_embedded_model(client: AsyncClient, clip: Path) -> None:
    pictures = list(read_frames(clip))[:FRAMES]
    weights = bundled_weights("micro")
    assert weights is not None
    assert_equal(await split(client, pictures), unsplit(pictures, "micro", 256, load_file(weights)))


async def test_split_of_an_untrained_preset(tmp_path: Path, clip: Path) -> None:
    pictures = list(read_frames(clip))[:4]
    options = MeshOptions(model="test")
    async with running_mesh(tmp_path / "traces", options) as mesh, AsyncClient(mesh.endpoint) as client:
        assert_equal(await split(client, pictures), unsplit(pictures, "test", 256, None))


@needs_data
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
async def test_sam2_1_tiny_from_a_checkpoint(tmp_path: Path, suffix: str) -> None:
    """With both container formats, at a configured resolution."""
    checkpoint = tmp_path / f"tiny.{suffix}"
    if suffix == "pt":
        torch.save({"model": tiny_state()}, checkpoint)
    else:
        save_file(tiny_state(), checkpoint)
    files = sorted((GOLDEN / "frames").glob("*.png"))[:4]
    pictures = [np.asarray(Image.open(f).convert("RGB").resize((640, 360))) for f in files]
    options = MeshOptions(model="sam2.1-tiny", checkpoint=checkpoint, image_size=IMAGE_SIZE)
    async with running_mesh(tmp_path / "traces", options) as mesh, AsyncClient(mesh.endpoint) as client:
        actual = await split(client, pictures)
    assert_equal(actual, unsplit(pictures, "sam2.1-tiny", IMAGE_SIZE, tiny_state()))
