"""Work of several sessions is batched, and the batches do not change the results."""

import asyncio
from pathlib import Path

import pytest
import torch

from maskmesh import AsyncClient, FrameMasks, LowResLogits, MaskFormat, MaskOptions, telemetry
from maskmesh.cli.mesh.local_mesh import MeshOptions
from tests.fresh_clips import write_fresh_clip
from tests.golden import relative_error
from tests.mesh import running_mesh
from tools.make_sample import CLICKS

FRAMES = 24
LOGITS = MaskOptions(MaskFormat.LOW_RES_LOGITS)
TOLERANCE = 5e-3
BATCH_SIZE = "maskmesh.batch.size"


async def track(client: AsyncClient, clip: Path, obj_id: int) -> list[FrameMasks]:
    async with client.session() as session:
        await session.append_video(clip)
        await session.add_prompt(0, obj_id, points=[CLICKS[obj_id]])
        return [frame async for frame in session.propagate(max_frames=FRAMES, mask_options=LOGITS)]


def logits(frame: FrameMasks, obj_id: int) -> torch.Tensor:
    mask = frame.objects[obj_id].mask
    assert isinstance(mask, LowResLogits)
    return torch.from_numpy(mask.values.copy())


async def test_sessions_share_batches(
    client: AsyncClient, clip: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    # Each session has different images, because an image that several sessions share is encoded once.
    clips = {obj_id: tmp_path / f"{obj_id}.mp4" for obj_id in CLICKS}
    for path in clips.values():
        write_fresh_clip(path, clip, FRAMES)
    expected = [await track(client, path, obj_id) for obj_id, path in clips.items()]
    async with (
        running_mesh(tmp_path_factory.mktemp("traces"), MeshOptions(max_batch=4)) as mesh,
        AsyncClient(mesh.endpoint) as other,
    ):
        found = await asyncio.gather(*(track(other, path, obj_id) for obj_id, path in clips.items()))
        traces = await mesh.complete_traces(frame.trace_id for frames in found for frame in frames)
    spans = [span for trace in traces.values() for span in trace.spans.values()]
    for stage in (telemetry.IMAGE_ENCODER, telemetry.MEMORY_ATTENTION, telemetry.MEMORY_ENCODER):
        sizes = {int(span.attributes[BATCH_SIZE]) for span in spans if span.name == stage}
        assert max(sizes) > 1, stage
    for ours, theirs, obj_id in zip(found, expected, CLICKS, strict=True):
        for one, another in zip(ours, theirs, strict=True):
            assert relative_error(logits(one, obj_id), logits(another, obj_id)) < TOLERANCE
