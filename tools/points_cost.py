"""What following points costs with TAPIR, through a mesh on this machine:

    python -m tools.points_cost

- windows of 16 frames that begin every 4, from cached features and from features computed anew for each one;
- windows that keep a budget of 10 frames per second, by the number of points.

Weights are random unless --point-checkpoint names a file; the speed is the same.  Let nothing else run.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import torch
from safetensors.torch import save_file

from encoder_svc.model.config import POINT_PRESETS as POINT_BACKBONES
from encoder_svc.model.config import PointBackboneConfig
from encoder_svc.model.point_backbone import PointEncoder
from maskmesh import AsyncClient, PointGrid, PointQuery, VideoSession, telemetry
from maskmesh.cli.mesh.local_mesh import LocalMesh, MeshOptions
from maskmesh.masks import ByteArray
from maskmesh.records.budget import Budget
from maskmesh.records.window_timer import WindowTimer
from tracker_svc.points.config import POINT_PRESETS
from tracker_svc.points.tapir import PointTrackingModel

# Of the features of a frame, until they are in the tracker.
FEATURE_STAGES = (
    telemetry.DECODE_IMAGE,
    telemetry.PREPROCESS,
    telemetry.IMAGE_ENCODER,
    telemetry.FETCH_EMBEDDING,
)

LENGTH, STRIDE, FRAMES_PER_SECOND = 16, 4, 10.0


def frames(count: int, seed: int) -> list[ByteArray]:
    """Noise that moves: every frame and every seed has content of its own."""
    large = np.random.default_rng(seed).integers(0, 256, (120, 160, 3), np.uint8)
    large = np.kron(large, np.ones((6, 6, 1), np.uint8))
    return [np.ascontiguousarray(large[100 + 2 * n : 460 + 2 * n, 100 + n : 740 + n]) for n in range(count)]


def random_checkpoint(folder: Path) -> Path:
    """A checkpoint of TAPIR with random weights."""
    torch.manual_seed(0)
    config = POINT_BACKBONES["tapir"]
    assert isinstance(config, PointBackboneConfig)
    parts = PointEncoder(config), PointTrackingModel(POINT_PRESETS["tapir"])
    path = folder / "tapir.safetensors"
    save_file({key: value for part in parts for key, value in part.state_dict().items()}, path)
    return path


class WindowSeconds(NamedTuple):
    """The seconds of a window with one point: in all, and of its features."""

    whole: float
    features: float


async def seconds_of_window(session: VideoSession, start: int) -> WindowSeconds:
    """The seconds that one point takes over the frames of a window."""
    begun, features = time.perf_counter(), 0.0
    async for frame in session.track_points([PointQuery(1, start, 300, 200)], max_frames=LENGTH):
        features += sum(frame.stage_seconds.get(stage, 0.0) for stage in FEATURE_STAGES)
    return WindowSeconds(time.perf_counter() - begun, features)


async def cached_and_anew(client: AsyncClient, windows: int) -> tuple[WindowSeconds, WindowSeconds]:
    """Medians of a window: with 12 of its 16 frames cached, and with none."""
    async with client.session() as session:
        await session.append_frames(frames(LENGTH + STRIDE * windows, 0))
        starts = range(0, STRIDE * windows + 1, STRIDE)
        cached = [await seconds_of_window(session, start) for start in starts][1:]
    anew = []
    for seed in range(1, windows + 1):
        async with client.session() as session:
            await session.append_frames(frames(LENGTH, seed))
            anew.append(await seconds_of_window(session, 0))
    return WindowSeconds(*map(statistics.median, zip(*cached, strict=True))), WindowSeconds(
        *map(statistics.median, zip(*anew, strict=True))
    )


async def windows_in_budget(client: AsyncClient, side: int, count: int) -> tuple[int, int, float]:
    """Windows that keep the budget, all windows, and the median seconds of a window, with side^2 points."""
    timer = WindowTimer(Budget(FRAMES_PER_SECOND, None, LENGTH, STRIDE))
    records = []
    async with client.session() as session:
        await session.append_frames(frames(count, 1000 + side))
        before = time.perf_counter()
        async for frame in session.track_points(grids=[PointGrid(side, side)]):
            now = time.perf_counter()
            records.append(timer.add(frame.frame_index, before, now, frame.stage_seconds))
            before = now
    # The first window waits for the first frames of the pipeline.
    done = [record for record in records if record is not None][1:]
    kept = sum(record.total <= (record.budget or 0) for record in done)
    return kept, len(done), statistics.median(record.total for record in done)


@click.command()
@click.option("--point-checkpoint", type=click.Path(exists=True, path_type=Path))
@click.option("--windows", default=6, help="Windows whose time is measured with and without the cache.")
@click.option("--frames", "count", default=64, help="Frames for each number of points.")
@click.option("--side", "sides", type=int, multiple=True, default=(5, 10, 14, 20), help="Side of the grid.")
@click.option("--threads", default=2, show_default=True, help="Threads of encoder and tracker.")
def main(point_checkpoint: Path | None, windows: int, count: int, sides: Sequence[int], threads: int) -> None:
    """Print the cost of following points with TAPIR on this machine."""

    async def measure(checkpoint: Path) -> None:
        flags = ["--point-model", "tapir", "--point-checkpoint", str(checkpoint.absolute())]
        options = MeshOptions(threads=threads, flags={"encoder": flags, "tracker": flags})
        async with LocalMesh(options) as mesh, AsyncClient(mesh.endpoint) as client:
            cached, anew = await cached_and_anew(client, windows)
            for name, before, after in zip(("whole", "features"), anew, cached, strict=True):
                ratio = before / after
                click.echo(
                    f"{name} of a window: anew {before:.2f} s, cached {after:.2f} s, ratio {ratio:.2f}"
                )
            for side in sides:
                kept, total, median = await windows_in_budget(client, side, count)
                click.echo(f"{side * side} points: {kept} of {total} windows in budget, {median:.2f} s")

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(point_checkpoint or random_checkpoint(Path(folder))))


if __name__ == "__main__":
    main()
