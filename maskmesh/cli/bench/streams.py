"""``maskmesh bench --streams``: how many live 1080p streams a mesh carries."""

import asyncio
import io
import itertools
import json
import secrets
import shutil
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from rich import box
from rich.console import Console
from rich.table import Table

from maskmesh.cli.run import console
from maskmesh.client.async_client import AsyncClient

WIDTH, HEIGHT = 1920, 1080
FRAMES_PER_SECOND = 30.0

# Rates that are tried with one stream if the mesh does not carry it at the wanted rate.
LOWER_RATES = (25.0, 20.0, 15.0, 12.0, 10.0, 8.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.5)

WARM_UP_SECONDS = 3.0
SECONDS = 8.0
MIN_FRAMES = 20

# Share of frames that may be skipped.
MAX_SKIPPED = 0.01

_STAT = Path("/proc/stat")


@dataclass(frozen=True, slots=True)
class Load:
    """What the mesh did with some streams at once."""

    streams: int
    frames_per_second: float
    mean_ms: float
    """Latencies from sending a frame to its result."""
    p90_ms: float
    p95_ms: float
    skipped: float
    """Share of the frames that were skipped because they came too fast, 0 to 1."""
    cpu: float
    """Use of this machine's processors, 0 to 1; includes the client."""
    gpu: float | None
    """Use of the first GPU, 0 to 1; None without one."""

    @property
    def is_carried(self) -> bool:
        """Whether the 95th percentile of the latencies is under the time of a frame, and none is lost."""
        return self.p95_ms <= 1000 / self.frames_per_second and self.skipped <= MAX_SKIPPED


async def bench_streams(client: AsyncClient, json_path: Path | None) -> None:
    """Find the largest number of 1080p streams of 30 frames a second, print it, and write it to a file."""
    picture = _picture()
    tried: list[Load] = []

    async def measure(streams: int, rate: float) -> Load:
        with console.status(f"{streams} streams of {rate:g} frames/s"):
            tried.append(load := await _measure(client, picture, streams, rate))
        return load

    most = await largest(lambda count: measure(count, FRAMES_PER_SECOND))
    if not most:
        for rate in LOWER_RATES:
            if (await measure(1, rate)).is_carried:
                break
    _print(tried, most)
    if json_path is not None:
        content = {"streams_1080p30": most, "loads": [asdict(load) for load in tried]}
        json_path.write_text(json.dumps(content, indent=2) + "\n")


async def largest(measure: Callable[[int], Awaitable[Load]]) -> int:
    """The largest number of streams that is carried: doubled until it is not, then halved between."""
    carried, count = 0, 1
    while (await measure(count)).is_carried:
        carried, count = count, count * 2
    refused = count
    while refused - carried > 1:
        middle = (carried + refused) // 2
        if (await measure(middle)).is_carried:
            carried = middle
        else:
            refused = middle
    return carried


def _picture() -> bytes:
    """A frame with a disc over noise, as a JPEG file."""
    random = np.random.default_rng(0)
    frame = random.integers(0, 160, (HEIGHT // 8, WIDTH // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    frame[(columns - WIDTH // 2) ** 2 + (rows - HEIGHT // 2) ** 2 < 150**2] = (250, 60, 40)
    buffer = io.BytesIO()
    PillowImage.fromarray(frame).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


async def _measure(client: AsyncClient, picture: bytes, streams: int, rate: float) -> Load:
    seconds = max(SECONDS, MIN_FRAMES / rate)
    begun = time.perf_counter() + max(WARM_UP_SECONDS, 3 / rate)
    before = _cpu_times()
    runs = await asyncio.gather(
        *(_stream(client, picture, rate, begun, begun + seconds) for _ in range(streams))
    )
    busy, total = (after - first for after, first in zip(_cpu_times(), before, strict=True))
    latencies = [latency * 1000 for run, _ in runs for latency in run] or [float("inf")]
    skipped = sum(count for _, count in runs)
    quantiles = statistics.quantiles(latencies, n=20) if len(latencies) > 1 else latencies * 19
    return Load(
        streams,
        rate,
        statistics.fmean(latencies),
        quantiles[17],
        quantiles[18],
        skipped / max(skipped + sum(len(run) for run, _ in runs), 1),
        busy / max(total, 1),
        await asyncio.to_thread(_gpu_use),
    )


async def _stream(
    client: AsyncClient, picture: bytes, rate: float, begun: float, end: float
) -> tuple[list[float], int]:
    """One stream until ``end``; returns the latencies of the frames that were sent after ``begun``, and how
    many were skipped.
    """
    due_of: dict[int, float] = {}
    latencies: list[float] = []
    skipped = 0

    async def receive() -> None:
        nonlocal skipped
        async for result in live:
            due = due_of.pop(result.sequence)
            if due >= begun:
                latencies.append(time.perf_counter() - due)
                skipped += len(result.skipped)

    async with client.stream(overload="skip") as live, asyncio.TaskGroup() as tasks:
        receiving = tasks.create_task(receive())
        start = time.perf_counter()
        for number in itertools.count():
            due = start + number / rate
            if due > end:
                break
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            due_of[live.next_sequence] = due
            # Bytes after the end of a JPEG file make it another image for every cache.
            await live.send(picture + secrets.token_bytes(8))
            if not number:
                await live.add_prompt(1, points=[(WIDTH / 2, HEIGHT / 2)])
                start = time.perf_counter() - 1 / rate  # the first call does not count
        await live.finish()
        await receiving
    return latencies, skipped


def _cpu_times() -> tuple[int, int]:
    """Busy and total time of all processors, in ticks; zeros where the system does not tell."""
    if not _STAT.exists():
        return 0, 0
    user, nice, system, idle, iowait, *others = map(int, _STAT.read_text().split("\n", 1)[0].split()[1:8])
    busy = user + nice + system + sum(others)
    return busy, busy + idle + iowait


def _gpu_use() -> float | None:
    """The use of the first GPU at this moment, as NVIDIA's tool reports it."""
    if (tool := shutil.which("nvidia-smi")) is None:
        return None
    query = [tool, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    said = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split()
    return int(said[0]) / 100 if said and said[0].isdigit() else None


def _print(tried: list[Load], most: int) -> None:
    output = Console(highlight=False, width=max(Console().width, 96))
    table = Table(title="Live streams of 1920 x 1080", title_justify="left", box=box.SIMPLE_HEAD)
    for name in (
        "streams",
        "frames/s each",
        "mean, ms",
        "p90, ms",
        "p95, ms",
        "skipped",
        "CPU",
        "GPU",
        "carried",
    ):
        table.add_column(name, justify="right")
    for load in tried:
        table.add_row(
            str(load.streams),
            f"{load.frames_per_second:g}",
            *(f"{value:.1f}" for value in (load.mean_ms, load.p90_ms, load.p95_ms)),
            f"{load.skipped:.1%}",
            f"{load.cpu:.0%}",
            "" if load.gpu is None else f"{load.gpu:.0%}",
            "yes" if load.is_carried else "no",
        )
    output.print(table)
    output.print(
        f"{most} streams of 1080p at {FRAMES_PER_SECOND:g} frames/s have the 95th percentile of their "
        "latencies under the time of a frame"
    )
    one = [load.frames_per_second for load in tried if load.streams == 1 and load.is_carried]
    if not most and one:
        output.print(f"one stream is carried at {one[-1]:g} frames/s")
