"""Soak tests: the memory of long sessions, and resources left by abandoned sessions.

    python -m tools.soak video --frames 2000
    python -m tools.soak sessions --count 500
    python -m tools.soak first-mask

Each command starts a local mesh with the embedded model, prints a table, and exits with 1 if memory, pins
or files grow, if a correction differs from that of a run with unbounded memory, or if a first mask is late.
The command first-mask measures latency: nothing else may run on the machine.
"""

import asyncio
import itertools
import json
import os
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import grpc
from rich.console import Console
from rich.progress import track
from rich.table import Table

from maskmesh import AsyncClient, FrameMasks, VideoSession
from maskmesh.cli.mesh.local_mesh import LocalMesh, MeshOptions
from maskmesh.internal.v1 import encoder_pb2, encoder_pb2_grpc
from maskmesh.masks import ByteArray
from maskmesh.media.video_reader import read_frames
from tools.make_sample import CLICKS, make_clip

SERVICES = ("encoder", "tracker", "gateway")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

# Small cache budgets, so that the caches are full before the first measurement.
CACHES = {"encoder": ["--cache-bytes", str(64 * 2**20)], "tracker": ["--embedding-bytes", str(32 * 2**20)]}

WARM_UP_SESSIONS = 50
STREAM_FRAMES = 24

# Limit on the median time to the first mask of a live stream, in frame times.
MAX_FIRST_MASK = 2.5

# Limits on the growth of a process: relative, and in bytes if that is more.  Allocators are inexact, and
# the smallest process varies by this much when idle.
MAX_GROWTH = 0.05
NOISE_BYTES = 10 * 2**20

console = Console(highlight=False, width=110)


def resident_bytes(pid: int) -> int:
    """The resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES


def disk_bytes(folder: Path) -> int:
    """The size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@asynccontextmanager
async def running(folder: Path, **flags: Sequence[str]) -> AsyncIterator[LocalMesh]:
    """A mesh without tracing, with its data in ``folder``."""
    all_flags = {name: [*CACHES.get(name, ()), *flags.get(name, ())] for name in SERVICES}
    for name in ("tracker", "gateway"):
        all_flags[name] += ["--data-dir", str(folder)]
    environment = {"MASKMESH_TRACE_DIR": "", "OTEL_EXPORTER_OTLP_ENDPOINT": ""}
    async with LocalMesh(MeshOptions(flags=all_flags, environment=environment)) as mesh:
        yield mesh


@click.group()
def main() -> None:
    """Soak tests with a local mesh."""


@main.command()
@click.option(
    "--frames", type=click.IntRange(min=200), default=2000, show_default=True, help="Length of the video."
)
@click.option(
    "--from-frame",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="First frame at which memory is measured, and interval of further measurements in frames.",
)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="File for the results.")
def video(frames: int, from_frame: int, json_path: Path | None) -> None:
    """Track one object through a long video and measure memory, then correct it near the beginning.

    The correction, and a reverse pass from the end, are compared with those of a mesh that keeps all states
    in memory.
    """
    if 2 * from_frame > frames:
        raise click.BadParameter("the video must be at least twice as long", param_hint="--from-frame")
    _end(*asyncio.run(_video(frames, from_frame)), json_path)


def _end(figures: dict[str, object], faults: list[str], json_path: Path | None) -> None:
    """Write the results, and exit with 1 if there are faults."""
    if json_path is not None:
        json_path.write_text(json.dumps(figures, indent=2) + "\n")
    if faults:
        raise click.ClickException("; ".join(faults))


async def _video(frames: int, from_frame: int) -> tuple[dict[str, object], list[str]]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        clip = folder / "clip.mp4"
        make_clip(clip, frames)
        bounded, memory = await _long_run(clip, folder, frames, [], measured_every=from_frame)
        whole, _ = await _long_run(clip, folder, frames, ["--recent-frames", str(frames)])
    table = Table("MiB at frame", *(str(index) for index in memory), "growth")
    growth = {}
    for service in SERVICES:
        at = {index: sizes[service] for index, sizes in memory.items()}
        growth[service] = at[max(at)] / at[from_frame] - 1
        table.add_row(service, *(f"{size / 2**20:.0f}" for size in at.values()), f"{growth[service]:+.1%}")
    console.print(table)
    differing = [
        ours.frame_index
        for ours, theirs in zip(bounded, whole, strict=True)
        if ours.objects != theirs.objects
    ]
    console.print(
        f"{len(bounded)} frames of the correction and the reverse pass compared: {len(differing)} differ"
    )
    faults = [f"{name} grew by {by:.1%}" for name, by in growth.items() if by > MAX_GROWTH]
    if differing:
        faults.append(f"frames {differing} differ from a run with unbounded memory")
    return {"growth": growth, "compared": len(bounded), "differing": differing}, faults


async def _long_run(
    clip: Path, folder: Path, frames: int, flags: list[str], *, measured_every: int | None = None
) -> tuple[list[FrameMasks], dict[int, dict[str, int]]]:
    """The frames of the correction and the reverse pass, and the memory of each service by frame count."""
    memory: dict[int, dict[str, int]] = {}
    async with (
        running(folder, tracker=flags) as mesh,
        AsyncClient(mesh.endpoint) as client,
        client.session() as session,
    ):
        await session.append_video(clip)
        await session.add_prompt(0, 1, points=[CLICKS[1]])
        start = time.perf_counter()
        async for found in session.propagate():
            count = found.frame_index + 1
            if measured_every and count % measured_every == 0:
                memory[count] = {n: resident_bytes(mesh.pid(n)) for n in SERVICES}
        seconds = time.perf_counter() - start
        console.print(
            f"{frames} frames in {seconds:.0f} s ({frames / seconds:.1f} a second), "
            f"on disk {disk_bytes(folder) / 2**20:.0f} MiB"
        )
        return await _go_back(session, frames), memory


async def _go_back(session: VideoSession, frames: int) -> list[FrameMasks]:
    found = [await session.add_prompt(100, 1, points=[CLICKS[2], (*CLICKS[1], 0)])]
    found += [frame async for frame in session.propagate(start_frame_index=95, max_frames=60)]
    reverse = session.propagate(start_frame_index=frames - 1, max_frames=frames // 2, reverse=True)
    found += [frame async for frame in reverse]
    return found


@main.command()
@click.option(
    "--count", type=click.IntRange(min=1), default=500, show_default=True, help="Number of sessions."
)
@click.option("--at-once", default=10, show_default=True, help="Number of concurrent sessions.")
@click.option("--ttl", default=5.0, show_default=True, help="Time to live of a session in seconds.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="File for the results.")
def sessions(count: int, at_once: int, ttl: float, json_path: Path | None) -> None:
    """Abandon sessions in use, and measure the resources that remain one TTL later."""
    _end(*asyncio.run(_sessions(count, at_once, ttl)), json_path)


async def _sessions(count: int, at_once: int, ttl: float) -> tuple[dict[str, object], list[str]]:
    rows = {}
    with TemporaryDirectory() as name:
        folder, clip = Path(name) / "data", Path(name) / "clip.mp4"
        make_clip(clip, 30)
        limits = ["--max-sessions", str(count + WARM_UP_SESSIONS + at_once)]
        async with running(folder, tracker=limits, gateway=limits) as mesh:
            # The first sessions cause one-time allocations.
            await _abandon(mesh, clip, WARM_UP_SESSIONS, at_once, ttl)
            await asyncio.sleep(ttl + 2)
            rows["before"] = await _held(mesh, folder)
            await _abandon(mesh, clip, count, at_once, ttl)
            rows["after the last"] = await _held(mesh, folder)
            await asyncio.sleep(ttl + 2)
            rows["one TTL later"] = await _held(mesh, folder)
    table = Table("MiB", *rows["before"])
    for label, held in rows.items():
        table.add_row(label, *(f"{value / 2**20:.1f}" for value in held.values()))
    console.print(table)
    before, later = rows["before"], rows["one TTL later"]
    faults = [
        f"{what}: {later[what] / 2**20:.1f} MiB left, {size / 2**20:.1f} MiB before"
        for what, size in before.items()
        if later[what] > size + (max(size * MAX_GROWTH, NOISE_BYTES) if what in SERVICES else 0)
    ]
    return dict(rows), faults


async def _abandon(mesh: LocalMesh, clip: Path, count: int, at_once: int, ttl: float) -> None:
    async def one(client: AsyncClient) -> None:
        session = await client.create_session(ttl=timedelta(seconds=ttl))
        await session.append_video(clip)
        await session.add_prompt(0, 1, points=[CLICKS[1]])
        frames = session.propagate()
        async for found in frames:
            if found.frame_index == 20:
                break  # abandon the session during its propagation

    for _ in track(
        range(0, count, at_once), description=f"{count} sessions", console=console, transient=True
    ):
        async with AsyncClient(mesh.endpoint) as client:
            await asyncio.gather(*(one(client) for _ in range(at_once)))


async def _held(mesh: LocalMesh, folder: Path) -> dict[str, int]:
    """The memory of each service, pinned embeddings and files on disk, in bytes."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{mesh.ports['encoder']}") as channel:
        stub = encoder_pb2_grpc.EncoderServiceStub(channel)
        statistics = await stub.GetCacheStatistics(encoder_pb2.GetCacheStatisticsRequest())
    memory = {name: resident_bytes(mesh.pid(name)) for name in SERVICES}
    return memory | {"pinned": statistics.pinned_bytes, "on disk": disk_bytes(folder)}


@main.command("first-mask")
@click.option("--count", type=click.IntRange(min=1), default=20, show_default=True, help="Number of streams.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="File for the results.")
def first_mask(count: int, json_path: Path | None) -> None:
    """Measure the time from the first frame of a live stream to its first mask, in frame times."""
    _end(*asyncio.run(_first_mask(count)), json_path)


async def _first_mask(count: int) -> tuple[dict[str, object], list[str]]:
    with TemporaryDirectory() as name:
        clip = Path(name) / "clip.mp4"
        # The first two streams warm up the mesh; each stream has frames that are not in a cache.
        make_clip(clip, (count + 2) * STREAM_FRAMES)
        images = list(read_frames(clip))
        first, steady = [], []
        async with running(Path(name)) as mesh, AsyncClient(mesh.endpoint) as client:
            for start in range(0, len(images), STREAM_FRAMES):
                waited, intervals = await _live(client, images[start : start + STREAM_FRAMES])
                if start >= 2 * STREAM_FRAMES:
                    first.append(waited)
                    steady += intervals
    frame = statistics.median(steady)
    figures = {"frame_ms": frame * 1e3, "first_mask_ms": statistics.median(first) * 1e3}
    ratios = {"median": statistics.median(first) / frame, "largest": max(first) / frame}
    table = Table("frame", "first mask", "in frame times", f"largest of {count}")
    table.add_row(
        *(f"{value:.1f} ms" for value in figures.values()), *(f"{value:.2f}" for value in ratios.values())
    )
    console.print(table)
    faults = []
    if ratios["median"] > MAX_FIRST_MASK:
        faults.append(f"the first mask takes {ratios['median']:.2f} frame times")
    return {**figures, "ratios": ratios}, faults


async def _live(client: AsyncClient, images: Sequence[ByteArray]) -> tuple[float, list[float]]:
    """Seconds from the first frame to the mask of its click, and between consecutive later results."""
    async with client.stream() as stream:
        start = time.perf_counter()
        await stream.send(images[0])
        await stream.add_prompt(1, points=[CLICKS[1]])
        waited = time.perf_counter() - start
        times = []

        async def collect() -> None:
            async for _ in stream:
                times.append(time.perf_counter())

        collecting = asyncio.ensure_future(collect())
        for image in images[1:]:
            await stream.send(image)
        await stream.finish()
        await collecting
    # Memory attention uses seven memories from the eighth frame on.
    return waited, [after - before for before, after in itertools.pairwise(times[8:])]


if __name__ == "__main__":
    main()
