"""What exporting every span costs a frame: the same mesh with and without tracing, in turns.

    python -m tools.tracing_cost --endpoint http://127.0.0.1:4317

Tracks frames with the embedded model while spans go to the OTLP endpoint, and with OpenTelemetry disabled,
and prints the medians of the turns and their ratio.  Nothing else may run on the machine.
"""

import asyncio
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import click
from safetensors.torch import save_file

from maskmesh import AsyncClient
from maskmesh.cli.bench.sessions import BenchOptions, measure_tracking
from maskmesh.cli.mesh.local_mesh import LocalMesh, MeshOptions
from tools.bench.transformers_names import to_checkpoint
from tools.bench.weights import random_model


async def median_seconds(options: MeshOptions, frames: int, environment: dict[str, str]) -> float:
    """The median time of a frame of one session."""
    async with (
        LocalMesh(replace(options, environment=environment)) as mesh,
        AsyncClient(mesh.endpoint) as client,
    ):
        return (await measure_tracking(client, BenchOptions(frames, 1, (1,)))).median


async def compare(endpoint: str, options: MeshOptions, turns: int, frames: int) -> None:
    """Measure both in turns, so that the machine's own changes meet both."""
    with_spans, without = [], []
    for _ in range(turns):
        with_spans.append(await median_seconds(options, frames, {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}))
        without.append(await median_seconds(options, frames, {"OTEL_SDK_DISABLED": "true"}))
    traced, plain = statistics.median(with_spans), statistics.median(without)
    click.echo(
        f"{options.model}: {traced * 1000:.2f} ms a frame with all spans exported, "
        f"{plain * 1000:.2f} ms without tracing: "
        f"{traced / plain - 1:+.1%} (medians of {turns} turns of {frames} frames; with "
        f"{', '.join(f'{s * 1000:.2f}' for s in with_spans)}; without "
        f"{', '.join(f'{s * 1000:.2f}' for s in without)})"
    )


@click.command()
@click.option("--endpoint", required=True, help="OTLP endpoint of a collector.")
@click.option("--random-tiny", is_flag=True, help="SAM 2.1 tiny with random weights, not the embedded model.")
@click.option("--turns", default=5, show_default=True)
@click.option("--frames", default=150, show_default=True)
def main(*, endpoint: str, random_tiny: bool, turns: int, frames: int) -> None:
    """Compare."""
    with tempfile.TemporaryDirectory() as folder:
        options = MeshOptions()
        if random_tiny:
            checkpoint = Path(folder) / "random.safetensors"
            save_file(to_checkpoint(random_model()), checkpoint)
            options = MeshOptions(model="sam2.1-tiny", checkpoint=checkpoint)
        asyncio.run(compare(endpoint, options, turns, frames))


if __name__ == "__main__":
    main()
