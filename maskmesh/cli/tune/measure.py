"""The speed, memory and agreement of one preset, measured on a mesh of its own."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maskmesh.cli.bench.sessions import disc, draw_frames
from maskmesh.cli.mesh.local_mesh import LocalMesh, MeshOptions
from maskmesh.client.async_client import AsyncClient
from maskmesh.client.session import VideoSession
from maskmesh.masks import BoolArray, RleMask
from maskmesh.types import Point, Prompt

# Results that fill the pipeline.
NUM_FIRST = 4


@dataclass(frozen=True, slots=True)
class Material:
    """What is tracked: a video and its prompts, or drawn frames if there is none."""

    clip: Path | None
    prompts: Mapping[int, Prompt]
    """By object, on the first frame."""
    max_frames: int

    @classmethod
    def drawn(cls, max_frames: int) -> "Material":
        """Discs that move over noise."""
        prompts = {number + 1: Prompt(points=[Point(*disc(number, 0))]) for number in range(2)}
        return cls(None, prompts, max_frames)


@dataclass(frozen=True, slots=True)
class Measured:
    """The price of one setting."""

    start_seconds: float
    first_click: float
    frame: float
    """Median seconds between two results, once the pipeline is full."""
    encoder_bytes: int
    tracker_bytes: int
    """Peak resident memory of each service."""
    masks: Sequence[Mapping[int, RleMask]]
    """The masks of each frame, by object."""

    @property
    def frames_per_second(self) -> float:
        """Results per second."""
        return 1 / self.frame


async def measure(options: MeshOptions, material: Material) -> Measured:
    """Start a mesh, prompt, track, and stop it.  Raises MeshError and the errors of the gateway."""
    began = time.perf_counter()
    async with LocalMesh(options) as mesh, AsyncClient(mesh.endpoint) as client:
        started = time.perf_counter() - began
        async with client.session() as session:
            await _append(session, material)
            start = time.perf_counter()
            for obj_id, prompt in material.prompts.items():
                await session.add_prompt(0, obj_id, points=prompt.points, box=prompt.box)
            first_click = (time.perf_counter() - start) / len(material.prompts)
            previous = time.perf_counter()
            intervals, masks = [], []
            async for frame in session.propagate(max_frames=material.max_frames):
                now = time.perf_counter()
                intervals.append(now - previous)
                previous = now
                masks.append({i: o.mask for i, o in frame.objects.items() if isinstance(o.mask, RleMask)})
        status = await client.mesh()
    peaks = {
        kind: max(s.usage.peak_resident_bytes for s in status.services if s.kind == kind and s.usage)
        for kind in ("encoder", "tracker")
    }
    steady = intervals[NUM_FIRST:] or intervals
    return Measured(
        started, first_click, statistics.median(steady), peaks["encoder"], peaks["tracker"], masks
    )


async def _append(session: VideoSession, material: Material) -> None:
    if material.clip is not None:
        await session.append_video(material.clip)
    else:
        await session.append_frames(draw_frames(material.max_frames, 7))


def agreement(found: Measured, reference: Measured) -> float:
    """The mean IoU of two runs' masks over frames and objects, 0 to 1; two empty masks agree."""
    scores = []
    for ours, theirs in zip(found.masks, reference.masks, strict=False):
        for obj_id in ours.keys() & theirs.keys():
            scores.append(_iou(ours[obj_id].decode(), theirs[obj_id].decode()))
    return statistics.fmean(scores) if scores else 0.0


def _iou(first: BoolArray, second: BoolArray) -> float:
    union = int(np.count_nonzero(first | second))
    return int(np.count_nonzero(first & second)) / union if union else 1.0
