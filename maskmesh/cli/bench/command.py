"""The command ``maskmesh bench``."""

from pathlib import Path
from typing import Any

import click

from maskmesh.cli.bench.sessions import BenchOptions, bench
from maskmesh.cli.bench.streams import bench_streams
from maskmesh.cli.media.outputs import check_outputs
from maskmesh.cli.mesh.gateway_options import Gateway, gateway_options, with_gateway
from maskmesh.cli.mesh.local_mesh import MeshOptions
from maskmesh.cli.mesh.mesh_options import mesh_options
from maskmesh.cli.run import run, verbose_option
from maskmesh.client.async_client import AsyncClient

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(name="bench")
@click.option(
    "--frames",
    type=click.IntRange(8),
    default=32,
    show_default=True,
    help="Frames of each session after the warm-up.",
)
@click.option(
    "--objects",
    type=click.IntRange(1, 4),
    default=1,
    show_default=True,
    help="Number of objects in each session.",
)
@click.option(
    "--sessions",
    type=click.IntRange(1),
    multiple=True,
    default=(1, 2, 4, 8),
    show_default=True,
    help="Number of concurrent sessions; may be repeated.",
)
@click.option(
    "--streams",
    is_flag=True,
    help="Find the largest number of live 1080p streams of 30 frames/s instead.",
)
@click.option("--json", "json_path", type=_FILE, help="JSON file for the results.")
@gateway_options
@mesh_options
@verbose_option
def bench_command(
    *,
    frames: int,
    objects: int,
    sessions: tuple[int, ...],
    streams: bool,
    json_path: Path | None,
    gateway: Gateway,
    **options: Any,
) -> None:
    """Measure the latency of clicks and of one session, and the throughput of several concurrent sessions.

    Run nothing else on the machine meanwhile.
    """
    check_outputs([], {"--json": json_path})
    bench_options = BenchOptions(frames, objects, sessions)

    async def work(client: AsyncClient) -> None:
        await (bench_streams(client, json_path) if streams else bench(client, bench_options, json_path))

    run(with_gateway(work, gateway, MeshOptions(**options)))
