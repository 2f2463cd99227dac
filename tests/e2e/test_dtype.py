"""The embedded model gives nearly the same masks in bfloat16 and in float32."""

from pathlib import Path

import numpy as np
import pytest

from maskmesh import AsyncClient, FrameMasks, LowResLogits
from maskmesh.cli.mesh.local_mesh import MeshOptions
from maskmesh.masks import BoolArray
from tests.mesh import running_mesh
from tools.make_sample import CLICKS

SAMPLE = Path(__file__).parents[2] / "tools" / "sample" / "clip.mp4"
# A mask of which the model is unsure may change completely by rounding.
MEAN_IOU = 0.97


async def tracked(client: AsyncClient) -> list[FrameMasks]:
    async with client.session() as session:
        await session.append_video(SAMPLE)
        for obj_id, where in CLICKS.items():
            await session.add_prompt(0, obj_id, points=[where])
        return [frame async for frame in session.propagate(max_frames=40)]


def pixels(frame: FrameMasks, obj_id: int) -> BoolArray:
    mask = frame.objects[obj_id].mask
    assert not isinstance(mask, LowResLogits)
    return mask.decode()


def iou(one: BoolArray, other: BoolArray) -> float:
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else 1.0


@pytest.mark.timeout(600)
async def test_bfloat16_agrees_with_float32(
    client: AsyncClient, tmp_path_factory: pytest.TempPathFactory
) -> None:
    expected = await tracked(client)
    options = MeshOptions(dtype="bfloat16")
    async with (
        running_mesh(tmp_path_factory.mktemp("traces"), options) as mesh,
        AsyncClient(mesh.endpoint) as other,
    ):
        assert "/bfloat16/" in (await other.create_session()).model.model_id
        found = await tracked(other)
    agreement = [
        iou(pixels(ours, obj_id), pixels(theirs, obj_id))
        for ours, theirs in zip(found, expected, strict=True)
        for obj_id in CLICKS
    ]
    assert np.mean(agreement) >= MEAN_IOU
