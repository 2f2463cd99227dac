"""What becomes of requests when there are more than a mesh can carry.

    python -m tools.overload --seconds 60

Starts a mesh of its own with the embedded model and sends it single images that no cache has seen: first as
many at once as finishes most in a second, then at random moments at 0.8 of that rate, then at three times of
it.  Requests are not made again.  Prints a table; exits with 1 where the accepted ones' p99 under three times
the load is more than twice that at 0.8, where the mesh takes a tenth more memory than it did then, where a
service still grows by a tenth after the first sixth of the time, or where any request fails otherwise than by
being refused with a hint.  Nothing else may run beside it.
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
from maskmesh.cli.local_mesh import LocalMesh, MeshOptions
from maskmesh.errors import ResourceExhausted, from_rpc_error
from maskmesh.rpc.channel import open_channel
from maskmesh.v1 import segmentation_pb2, segmentation_pb2_grpc
from tools.soak import CACHES, SERVICES, resident_bytes

WIDTH, HEIGHT = 640, 480
# One of these finishes most in a second: fewer leave something idle, more are refused.
AT_ONCE = (6, 8, 10, 12)
LOADS = (0.8, 3.0)

MAX_RATIO = 2.0
MAX_GROWTH = 0.1

console = Console(highlight=False, width=110)


@dataclass(slots=True)
class Phase:
    """What came of the requests of one load."""

    load: float
    rate: float
    seconds: list[float] = field(default_factory=list)
    """Of those that were accepted."""
    refused: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    refused_seconds: list[float] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)
    """Largest, by service."""
    early_memory: dict[str, int] = field(default_factory=dict)
    """Largest in the first sixth of the time."""
    took: float = 0.0
    stolen: float = 0.0
    """Share of the processors' time that a host gave to others; with much of it other figures say little."""

    @property
    def p99(self) -> float:
        """99th percentile of the accepted requests, in seconds."""
        return statistics.quantiles(self.seconds, n=100)[98]

    def to_json(self) -> dict[str, object]:
        """Figures of the phase."""
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
    """Pictures of equal work whose digests all differ, with a click."""
    noise = np.random.default_rng(0).integers(0, 200, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    buffer = io.BytesIO()
    PillowImage.fromarray(noise.repeat(8, 0).repeat(8, 1)).save(buffer, "JPEG", quality=90)
    for number in itertools.count():
        request = segmentation_pb2.SegmentImageRequest()
        # Decoders leave off at the picture's end: what follows makes it another content.
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
        """The most requests that finish in a second, however many are under way."""
        rates = [await self._rate(at_once, seconds / len(AT_ONCE)) for at_once in AT_ONCE]
        return max(rates)

    async def _rate(self, at_once: int, seconds: float) -> float:
        """Requests that finish in a second where so many are under way all the time."""
        phase = Phase(1.0, 0.0)
        until = time.monotonic() + seconds

        async def worker() -> None:
            while time.monotonic() < until:
                await self._one(phase)

        await asyncio.gather(*(worker() for _ in range(at_once)))
        return len(phase.seconds) / seconds

    async def run(self, load: float, rate: float, seconds: float) -> Phase:
        """``rate`` requests a second at random moments, whatever becomes of those before."""
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
    """Time of all processors that the host of a virtual machine has had for others since the start."""
    return int(Path("/proc/stat").read_text().split()[8]) / os.sysconf("SC_CLK_TCK")


async def measure(seconds: float) -> tuple[float, list[Phase]]:
    """The capacity in requests a second, and what came of each load."""
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
    """What is not as it should be."""
    found = []
    if (ratio := over.p99 / usual.p99) > MAX_RATIO:
        found.append(f"p99 is {ratio:.2f} times that at {usual.load} of the load")
    if (growth := growth_of(usual, over)) > MAX_GROWTH:
        found.append(f"the mesh takes {growth:.0%} more memory")
    for name, size in over.memory.items():
        if size > over.early_memory[name] * (1 + MAX_GROWTH):
            found.append(f"the {name} grew from {over.early_memory[name]} to {size} bytes")
    found += [f"{count} requests failed: {name}" for name, count in (usual.failed + over.failed).items()]
    return found


def growth_of(usual: Phase, over: Phase) -> float:
    """How much more memory the mesh takes, as a share."""
    return sum(over.memory.values()) / sum(usual.memory.values()) - 1


@click.command()
@click.option("--seconds", default=60.0, show_default=True, help="Length of each load.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="File for the figures.")
def main(seconds: float, json_path: Path | None) -> None:
    """Latency of accepted requests at 0.8 of what a mesh can carry, and at three times of it."""
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
    console.print(f"capacity {capacity:.1f} requests/s; p99 under three times the load / at 0.8: ", end="")
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
