"""Measure the encode throughput of two encoder replicas relative to one.

    python -m tools.replicas

Each replica has one thread on its own core.  The model is sam2.1-tiny at 1024 x 1024 with random weights;
the images are new, so that none is in a cache.  The runs with one and two replicas alternate.  Nothing else
may run on the machine.
"""

import asyncio
import itertools
import json
import os
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file

from gateway.backends.encoders import EncodeOptions, EncoderRing, Encoders
from gateway.backends.image_encoding import encode_image
from maskmesh.cli.bench.sessions import draw_frames
from maskmesh.cli.mesh.local_mesh import LocalMesh, MeshOptions
from maskmesh.config import enable_ring_hash
from maskmesh.types import EncodedImage
from tools.bench.transformers_names import to_checkpoint
from tools.bench.weights import random_model

MODEL = "sam2.1-tiny"
MAX_MESSAGE_BYTES = 2**26

# Enough concurrent requests that no replica is idle, for every distribution by the ring hash.
AT_ONCE = 16

console = Console(highlight=False, width=100)


async def rate(encoders: Encoders, seconds: float, seeds: "itertools.count[int]") -> float:
    """Images encoded per second."""
    encode_options = EncodeOptions(interactive=False)
    pictures = [EncodedImage(frame) for frame in draw_frames(8, next(seeds))]
    numbers = itertools.count()
    done: list[float] = []

    async def worker() -> None:
        while time.monotonic() < until:
            # Bytes after the end of the image change its digest, but not the work.
            picture = pictures[next(numbers) % len(pictures)].data + os.urandom(8)
            await encode_image(encoders, EncodedImage(picture), encode_options)
            done.append(time.monotonic())

    began = time.monotonic()
    until = began + seconds
    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    # The time from the first to the last completion includes requests in progress at the end.
    return (len(done) - 1) / (done[-1] - done[0])


async def measure(turns: int, seconds: float, checkpoint: Path) -> dict[str, list[float]]:
    """Images per second in each round, by the number of replicas."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    options = MeshOptions(
        model=MODEL,
        checkpoint=checkpoint,
        encoders=2,
        threads=1,
        cores={"encoder": {cores[0]}, "encoder-2": {cores[1]}},
        environment={"MASKMESH_TRACE_DIR": "", "OTEL_EXPORTER_OTLP_ENDPOINT": ""},
    )
    enable_ring_hash()
    async with LocalMesh(options) as mesh:
        addresses = [f"127.0.0.1:{mesh.ports[name]}" for name in ("encoder", "encoder-2")]
        reached = {
            "one": EncoderRing(addresses[0], max_message_bytes=MAX_MESSAGE_BYTES),
            "two": EncoderRing("ipv4:" + ",".join(addresses), max_message_bytes=MAX_MESSAGE_BYTES),
        }
        seeds = itertools.count(time.time_ns())
        rates: dict[str, list[float]] = {name: [] for name in reached}
        await rate(reached["two"], seconds / 3, seeds)
        for _ in range(turns):
            for name, encoders in reached.items():
                rates[name].append(await rate(encoders, seconds, seeds))
                console.print(f"  {name}: {rates[name][-1]:.2f} images/s", style="dim")
        for encoders in reached.values():
            await encoders.close()
    return rates


@click.command(context_settings={"show_default": True})
@click.option("--turns", default=3, help="Number of rounds.")
@click.option("--seconds", default=20.0, help="Duration of a round in seconds.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="File for the results.")
def main(turns: int, seconds: float, json_path: Path | None) -> None:
    """Measure the encode throughput of two replicas relative to one."""
    with TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "model.safetensors"
        save_file(to_checkpoint(random_model()), checkpoint)
        rates = asyncio.run(measure(turns, seconds, checkpoint))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    table = Table("replicas", "images/s")
    for name, median in medians.items():
        table.add_row(name, f"{median:.2f}")
    console.print(table)
    ratio = medians["two"] / medians["one"]
    console.print(f"two replicas / one: {ratio:.2f}")
    if json_path is not None:
        json_path.write_text(json.dumps({"rates": rates, "ratio": ratio}, indent=2) + "\n")


if __name__ == "__main__":
    main()
