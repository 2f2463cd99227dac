"""``maskmesh bench``: latency and throughput of a mesh, measured by a client."""

import asyncio
import contextlib
import io
import itertools
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from rich import box
from rich.console import Console
from rich.table import Table

from maskmesh.cli.run import console
from maskmesh.client.async_client import AsyncClient
from maskmesh.client.session import VideoSession
from maskmesh.types import ModelInfo

WIDTH, HEIGHT = 640, 360
RADIUS = 40
CLICKS = 12

# After so many frames the memory bank is full, and every tensor shape has occurred.
WARM_UP_FRAMES = 16

_TABLE_WIDTH = 96


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """Options of a benchmark."""

    frames: int
    """Frames of each session after the warm-up."""
    objects: int
    sessions: Sequence[int]
    """Numbers of concurrent sessions; the throughput is measured for each of them."""


@dataclass(frozen=True, slots=True)
class Clicks:
    """Latencies of clicks on frames that are in no cache, in seconds."""

    first: float
    median: float


@dataclass(frozen=True, slots=True)
class Tracking:
    """Latencies of one session that tracks alone, in seconds."""

    first_frame: float
    """From the call to the first result."""
    median: float
    p95: float
    stages: Mapping[str, float] = field(default_factory=dict)
    """Mean of each stage on a tracked frame; stages of different services run concurrently."""


def draw_frames(count: int, seed: int) -> list[bytes]:
    """Frames with discs that move over noise, as JPEG files; with a new seed they are in no cache."""
    random = np.random.default_rng(seed)
    background = random.integers(0, 160, (HEIGHT // 8, WIDTH // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    files = []
    for index in range(count):
        frame = background.copy()
        for number in range(4):
            x, y = disc(number, index)
            frame[(columns - x) ** 2 + (rows - y) ** 2 < RADIUS**2] = (250, 40 + 50 * number, 40)
        buffer = io.BytesIO()
        PillowImage.fromarray(frame).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


def disc(number: int, frame: int) -> tuple[float, float]:
    """The centre of a disc, in pixels."""
    return 80.0 + 150 * (number % 4) + frame % 40, HEIGHT / 2 + 60 * (-1) ** number


async def bench(client: AsyncClient, options: BenchOptions, json_path: Path | None) -> None:
    """Run the benchmark, print the results, and write them to ``json_path`` if it is set."""
    seeds = itertools.count(time.time_ns())
    with console.status("clicks"):
        model, clicks = await _click(client, draw_frames(CLICKS, next(seeds)))
    with console.status("one session"):
        tracking = await measure_tracking(client, options)
    throughput: dict[int, float] = {}
    for count in options.sessions:
        with console.status(f"{count} concurrent sessions"):
            throughput[count] = await measure_throughput(client, options, count)
    _print(model, options, clicks, tracking, throughput)
    if json_path is not None:
        content = {
            "model_id": model.model_id,
            "threads": model.threads,
            "objects": options.objects,
            "clicks": asdict(clicks),
            "tracking": asdict(tracking),
            "frames_per_second_by_sessions": throughput,
        }
        json_path.write_text(json.dumps(content, indent=2) + "\n")


async def _click(client: AsyncClient, frames: Sequence[bytes]) -> tuple[ModelInfo, Clicks]:
    seconds = []
    async with client.session() as session:
        await session.append_frames(frames)
        for index in range(len(frames)):
            start = time.perf_counter()
            await session.add_prompt(index, 0, points=[disc(0, index)])
            seconds.append(time.perf_counter() - start)
        return session.model, Clicks(seconds[0], statistics.median(seconds[1:]))


async def measure_tracking(client: AsyncClient, options: BenchOptions) -> Tracking:
    """Latencies of one session that tracks alone, on frames that are in no cache."""
    async with client.session() as session:
        await _begin(session, options, time.time_ns())
        start = time.perf_counter()
        deliveries, stages = [], []
        async for frame in session.propagate():
            deliveries.append(time.perf_counter())
            stages.append(frame.stage_seconds)
    steady = _intervals(deliveries)[WARM_UP_FRAMES - 1 :]
    names = dict.fromkeys(name for times in stages for name in times)
    means = {
        name: statistics.fmean(times.get(name, 0.0) for times in stages[WARM_UP_FRAMES:]) for name in names
    }
    return Tracking(
        deliveries[0] - start, statistics.median(steady), statistics.quantiles(steady, n=20)[-1], means
    )


async def measure_throughput(client: AsyncClient, options: BenchOptions, count: int) -> float:
    """Frames per second of ``count`` sessions together, from when all are warm until the first one ends."""
    first = time.time_ns()
    seeds = range(first, first + count)  # so that no cache has an embedding of the frames

    async def run(session: VideoSession) -> list[float]:
        return [time.perf_counter() async for _ in session.propagate()]

    async with contextlib.AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(client.session()) for _ in seeds]
        for session, seed in zip(sessions, seeds, strict=True):
            await _begin(session, options, seed)
        deliveries = await asyncio.gather(*(run(session) for session in sessions))
    start = max(times[WARM_UP_FRAMES - 1] for times in deliveries)
    end = min(times[-1] for times in deliveries)
    if end <= start:
        raise ValueError("some sessions ended before others were warm: increase --frames")
    delivered = sum(start < moment <= end for times in deliveries for moment in times)
    return delivered / (end - start)


async def _begin(session: VideoSession, options: BenchOptions, seed: int) -> None:
    await session.append_frames(draw_frames(WARM_UP_FRAMES + options.frames, seed))
    for obj_id in range(options.objects):
        await session.add_prompt(0, obj_id, points=[disc(obj_id, 0)])


def _intervals(moments: Sequence[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(moments)]


def _print(
    model: ModelInfo,
    options: BenchOptions,
    clicks: Clicks,
    tracking: Tracking,
    throughput: Mapping[int, float],
) -> None:
    terminal = Console(highlight=False)
    output = Console(highlight=False, width=max(terminal.width, _TABLE_WIDTH))
    output.print(f"{model.model_id} on {model.device}, {model.threads} threads in each service")
    output.print(
        f"click on a new frame: median {clicks.median * 1e3:.1f} ms; first {clicks.first * 1e3:.1f} ms, "
        f"{clicks.first / clicks.median:.2f} times the median"
    )
    objects = "one object" if options.objects == 1 else f"{options.objects} objects"
    output.print(
        f"tracked frame with {objects}: median {tracking.median * 1e3:.1f} ms, 95th percentile "
        f"{tracking.p95 * 1e3:.1f} ms; first frame after {tracking.first_frame * 1e3:.1f} ms"
    )
    stages = Table(title="Stages of a tracked frame", title_justify="left", box=box.SIMPLE_HEAD)
    stages.add_column("stage")
    stages.add_column("mean, ms", justify="right")
    for name, seconds in tracking.stages.items():
        stages.add_row(name, f"{seconds * 1e3:.2f}")
    output.print(stages)
    sessions = Table(title="Concurrent sessions", title_justify="left", box=box.SIMPLE_HEAD)
    sessions.add_column("sessions", justify="right")
    sessions.add_column("frames/s in total", justify="right")
    for count, rate in throughput.items():
        sessions.add_row(str(count), f"{rate:.1f}")
    output.print(sessions)
