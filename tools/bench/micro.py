"""The overhead of the mesh with the embedded model: the time of a frame outside its stages."""

import statistics
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from maskmesh import AsyncClient, telemetry
from maskmesh.cli.mesh.local_mesh import LocalMesh, MeshOptions
from maskmesh.media.video_reader import read_frames
from maskmesh.trace_report.attribution import Attribution
from maskmesh.trace_report.report import make_report
from tools.bench.contenders import Click

WARM_UP_FRAMES = 16

# The stages of the model; fetching an embedding is overhead of the mesh.
MODEL_STAGES = frozenset(telemetry.STAGES) - {telemetry.FETCH_EMBEDDING}

CLICKED_FRAMES = 10


@dataclass(frozen=True, slots=True)
class Pace:
    """Medians over frames after the warm-up, in seconds."""

    frame: float
    """Time between two deliveries, or from sending to delivery if frames are sent one at a time."""
    beyond: float
    """The part of ``frame`` outside the stages of the model."""
    frames: int

    def to_json(self) -> dict[str, Any]:
        """The results for ``bench.json``, in milliseconds."""
        return {"frame_ms": self.frame * 1e3, "beyond_stages_ms": self.beyond * 1e3, "frames": self.frames}


@dataclass(frozen=True, slots=True)
class FirstRequest:
    """Seconds of clicks on frames that are not in a cache, right after the mesh is ready."""

    first: float
    median: float


async def run_propagation(video: Path, click: Click) -> Pace:
    """Propagate through a video."""

    async def work(client: AsyncClient) -> None:
        async with client.session() as session:
            await session.append_video(video)
            await session.add_prompt(0, 1, points=[click])
            async for _ in session.propagate():
                pass

    return await _traced(work)


async def run_live(video: Path, click: Click) -> Pace:
    """Stream a video; each frame is sent after the result of the previous frame."""

    async def work(client: AsyncClient) -> None:
        async with client.stream() as stream:
            results = aiter(stream)
            for index, frame in enumerate(read_frames(video)):
                await stream.send(frame)
                if index == 0:
                    await stream.add_prompt(1, points=[click])
                await anext(results)

    return await _traced(work)


async def run_first_request(video: Path, click: Click) -> FirstRequest:
    """Click on the first frames of a new session."""
    seconds = []
    async with (
        LocalMesh(MeshOptions()) as mesh,
        AsyncClient(mesh.endpoint) as client,
        client.session() as session,
    ):
        await session.append_video(video)
        for index in range(CLICKED_FRAMES + 1):
            start = time.perf_counter()
            await session.add_prompt(index, 1, points=[click])
            seconds.append(time.perf_counter() - start)
    return FirstRequest(seconds[0], statistics.median(seconds[1:]))


async def _traced(work: Callable[[AsyncClient], Coroutine[Any, Any, None]]) -> Pace:
    """Run ``work`` with a new mesh; returns the results from its traces."""
    with TemporaryDirectory() as folder:
        traces = {"MASKMESH_TRACE_DIR": folder, "OTEL_EXPORTER_OTLP_ENDPOINT": ""}
        async with (
            LocalMesh(MeshOptions(environment=traces)) as mesh,
            AsyncClient(mesh.endpoint) as client,
        ):
            await work(client)
        return _pace(make_report(Path(folder)).steady[WARM_UP_FRAMES:])


def _pace(frames: Sequence[Attribution]) -> Pace:
    beyond = [
        frame.duration_ns - sum(frame.by_name.get(stage, 0) for stage in MODEL_STAGES) for frame in frames
    ]
    durations = [frame.duration_ns for frame in frames]
    return Pace(statistics.median(durations) / 1e9, statistics.median(beyond) / 1e9, len(frames))
