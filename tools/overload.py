"""Measure a mesh under overload.

    python -m tools.overload --seconds 60

Starts a local mesh with the embedded model and sends it single images that are not in a cache: first with
several numbers of concurrent requests, to measure the capacity in requests per second, then at random times
at 0.8 and at 3 times the capacity.  Requests are not retried.  Prints a table, and exits with 1 if the p99
latency of accepted requests at 3 times the capacity is more than twice that at 0.8, if the mesh uses 10 %
more memory than at 0.8, if the memory of a service grows by 10 % after the first sixth of the time, or if a
request fails without a retry hint.  Nothing else may run on the machine.
"""

import asyncio
import io
import itertools
import json
import os
import random
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click
import grpc
import numpy as np
from PIL import Image as PillowImage
from rich.console import Console
from rich.table import Table

from maskmesh import Point, Prompt, wire
from maskmesh.cli.mesh.local_mesh import LocalMesh, MeshOptions
from maskmesh.errors import ResourceExhausted
from maskmesh.rpc.channel import open_channel
from maskmesh.rpc.status import from_rpc_error
from maskmesh.v1 import segmentation_pb2, segmentation_pb2_grpc
from tools.soak import CACHES, SERVICES, resident_bytes

WIDTH, HEIGHT = 640, 480
# Numbers of concurrent requests; one of them gives the highest throughput: fewer requests leave a service
# idle, and more are refused.
AT_ONCE = (6, 8, 10, 12)
LOADS = (0.8, 3.0)

MAX_RATIO = 2.0
MAX_GROWTH = 0.1

console = Console(highlight=False, width=110)


@dataclass(slots=True)
class Phase:
    """The results of the requests at one load."""

    load: float
    rate: float
    seconds: list[float] = field(default_factory=list)
    """Latencies of the accepted requests."""
    refused: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    refused_seconds: list[float] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)
    """Peak memory in bytes, by service."""
    early_memory: dict[str, int] = field(default_factory=dict)
    """Peak memory in the first sixth of the time."""
    took: float = 0.0
    stolen: float = 0.0
    """Share of CPU time that the host gave to other guests; a high share makes other results unreliable."""

    @property
    def p99(self) -> float:
        """99th percentile of the accepted requests, in seconds."""
        return statistics.quantiles(self.seconds, n=100)[98]

    def to_json(self) -> dict[str, object]:
        """The results of the phase, for the JSON file."""
        return {
            "load": self.load,
            "requests_per_second": self.rate,
            "accepted": len(self.seconds),
            "accepted_per_second": len(self.seconds) / self.took,
            "refused": self.refused,
            "failed": dict(self.failed),
            "median_seconds": statistics.median(self.seconds),
            "p99_seconds": self.p99,
            "refused_p99_seconds": statistics.quantiles(self.refused_seconds, n=100)[98]
            if len(self.refused_seconds) > 1
            else None,
            "memory_bytes": self.memory,
            "early_memory_bytes": self.early_memory,
            "stolen": self.stolen,
        }


def requests() -> Iterator[segmentation_pb2.SegmentImageRequest]:
    """Requests with a click on images of equal size that all have different digests."""
    noise = np.random.default_rng(0).integers(0, 200, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    buffer = io.BytesIO()
    PillowImage.fromarray(noise.repeat(8, 0).repeat(8, 1)).save(buffer, "JPEG", quality=90)
    for number in itertools.count():
        request = segmentation_pb2.SegmentImageRequest()
        # Decoders ignore bytes after the end of the image, but the bytes change its digest.
        request.image.encoded = buffer.getvalue() + number.to_bytes(8, "big")
        prompt = Prompt(points=(Point(WIDTH / 2, HEIGHT / 2),))
        request.prompts.add(obj_id=1, prompt=wire.prompt_to_proto(prompt))
        yield request


class Generator:
    """Sends requests to a mesh."""

    def __init__(self, mesh: LocalMesh, channel: grpc.aio.Channel) -> None:
        self._mesh = mesh
        self._stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
        self._requests = requests()

    async def capacity(self, seconds: float) -> float:
        """The highest number of requests per second over all numbers of concurrent requests."""
        rates = [await self._rate(at_once, seconds / len(AT_ONCE)) for at_once in AT_ONCE]
        return max(rates)

    async def _rate(self, at_once: int, seconds: float) -> float:
        """The requests per second with ``at_once`` concurrent requests."""
        phase = Phase(1.0, 0.0)
        until = time.monotonic() + seconds

        async def worker() -> None:
            while time.monotonic() < until:
                await self._one(phase)

        await asyncio.gather(*(worker() for _ in range(at_once)))
        return len(phase.seconds) / seconds

    async def run(self, load: float, rate: float, seconds: float) -> Phase:
        """Send ``rate`` requests per second at random times, independently of earlier requests."""
        phase = Phase(load, rate)
        watching = asyncio.ensure_future(self._watch(phase, seconds / 6))
        sent: set[asyncio.Task[None]] = set()
        random.seed(0)
        began = at = time.monotonic()
        stolen = stolen_seconds()
        while at < began + seconds:
            at += random.expovariate(rate)
            await asyncio.sleep(max(at - time.monotonic(), 0))
            task = asyncio.ensure_future(self._one(phase))
            sent.add(task)
            task.add_done_callback(sent.discard)
        await asyncio.gather(*sent)
        phase.took = time.monotonic() - began
        phase.stolen = (stolen_seconds() - stolen) / phase.took / (os.cpu_count() or 1)
        watching.cancel()
        return phase

    async def _one(self, phase: Phase) -> None:
        start = time.perf_counter()
        try:
            await self._stub.SegmentImage(next(self._requests), timeout=60)
        except grpc.RpcError as raised:
            error = from_rpc_error(raised)
            if isinstance(error, ResourceExhausted) and error.passes and error.retry_seconds > 0:
                phase.refused += 1
                phase.refused_seconds.append(time.perf_counter() - start)
            else:
                phase.failed[type(error).__name__ + " " + str(raised.code())] += 1
        else:
            phase.seconds.append(time.perf_counter() - start)

    async def _watch(self, phase: Phase, early_seconds: float) -> None:
        began = time.monotonic()
        while True:
            for name in SERVICES:
                phase.memory[name] = max(phase.memory.get(name, 0), resident_bytes(self._mesh.pid(name)))
            if time.monotonic() - began < early_seconds:
                phase.early_memory = dict(phase.memory)
            await asyncio.sleep(0.5)


def stolen_seconds() -> float:
    """CPU seconds since the boot that the host of this virtual machine gave to other guests."""
    return int(Path("/proc/stat").read_text().split()[8]) / os.sysconf("SC_CLK_TCK")


async def measure(seconds: float) -> tuple[float, list[Phase]]:
    """The capacity in requests per second, and the results at each load."""
    flags = {name: list(CACHES.get(name, ())) for name in SERVICES}
    environment = {"MASKMESH_TRACE_DIR": "", "OTEL_EXPORTER_OTLP_ENDPOINT": ""}
    async with (
        LocalMesh(MeshOptions(flags=flags, environment=environment)) as mesh,
        open_channel(mesh.endpoint, max_message_bytes=2**26) as channel,
    ):
        generator = Generator(mesh, channel)
        await generator.capacity(5.0)
        capacity = await generator.capacity(min(seconds, 40.0))
        phases = []
        for load in LOADS:
            phases.append(await generator.run(load, load * capacity, seconds))
        return capacity, phases


def faults(usual: Phase, over: Phase) -> list[str]:
    """Descriptions of the limits that the results exceed."""
    found = []
    if (ratio := over.p99 / usual.p99) > MAX_RATIO:
        found.append(f"p99 is {ratio:.2f} times the p99 at {usual.load} of the capacity")
    if (growth := growth_of(usual, over)) > MAX_GROWTH:
        found.append(f"the mesh uses {growth:.0%} more memory")
    for name, size in over.memory.items():
        if size > over.early_memory[name] * (1 + MAX_GROWTH):
            found.append(f"the {name} grew from {over.early_memory[name]} to {size} bytes")
    found += [f"{count} requests failed: {name}" for name, count in (usual.failed + over.failed).items()]
    return found


def growth_of(usual: Phase, over: Phase) -> float:
    """The relative growth of the memory of the mesh."""
    return sum(over.memory.values()) / sum(usual.memory.values()) - 1


@click.command()
@click.option("--seconds", default=60.0, show_default=True, help="Duration of each load in seconds.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="File for the results.")
def main(seconds: float, json_path: Path | None) -> None:
    """Measure the latency of accepted requests at 0.8 and at 3 times the capacity of a mesh."""
    capacity, phases = asyncio.run(measure(seconds))
    table = Table("load", "requests/s", "accepted", "refused", "median", "p99", "stolen", *SERVICES)
    for phase in phases:
        table.add_row(
            f"{phase.load:.1f}",
            f"{phase.rate:.0f}",
            str(len(phase.seconds)),
            str(phase.refused),
            f"{statistics.median(phase.seconds) * 1e3:.0f} ms",
            f"{phase.p99 * 1e3:.0f} ms",
            f"{phase.stolen:.1%}",
            *(f"{phase.memory[name] / 2**20:.0f} MiB" for name in SERVICES),
        )
    console.print(table)
    usual, over = phases
    console.print(f"capacity {capacity:.1f} requests/s; p99 at 3 times the capacity / at 0.8: ", end="")
    console.print(f"{over.p99 / usual.p99:.2f}; memory {growth_of(usual, over):+.1%}")
    found = faults(usual, over)
    for fault in found:
        console.print(f"[red]{fault}[/red]")
    if json_path is not None:
        content = {"capacity": capacity, "phases": [phase.to_json() for phase in phases], "faults": found}
        json_path.write_text(json.dumps(content, indent=2) + "\n")
    raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()
