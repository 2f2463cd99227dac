"""``maskmesh up``: a mesh on this machine until it is stopped."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import click

from maskmesh.cli.mesh.gateway_options import show_line, tls_files
from maskmesh.cli.mesh.jaeger import UI_PORT, traced_to
from maskmesh.cli.mesh.local_mesh import LocalMesh, MeshError, MeshOptions
from maskmesh.cli.mesh.mesh_options import mesh_options
from maskmesh.cli.run import run, say, verbose_option
from maskmesh.cli.segment.segment import say_model
from maskmesh.client.async_client import AsyncClient
from maskmesh.rpc.addresses import is_loopback
from maskmesh.telemetry.config import load_telemetry
from maskmesh.types import Tls

_COUNT = click.IntRange(1, 64)


@click.command()
@mesh_options
@click.option("--encoders", type=_COUNT, default=1, show_default=True, help="Number of encoders.")
@click.option("--trackers", type=_COUNT, default=1, show_default=True, help="Number of trackers.")
@click.option("--gateways", type=_COUNT, default=1, show_default=True, help="Number of gateways.")
@click.option(
    "--devices",
    help="Comma-separated torch devices instead of --device, assigned in order to encoders and then to "
    "trackers, cyclically.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=50050, show_default=True, help="Port of the first gateway; 0 chooses one.")
@click.option("--encoder-port", default=0, help="Port of the first encoder; 0 chooses one.")
@click.option("--tracker-port", default=0, help="Port of the first tracker; 0 chooses one.")
@click.option(
    "--restart",
    type=click.Choice(["always", "never"]),
    default="always",
    show_default=True,
    help="Whether a service that ends is started again; with never, it ends the mesh.",
)
@click.option(
    "--jaeger",
    metavar="PATH_OR_ENDPOINT",
    help="Send traces to the Jaeger at an OTLP endpoint (localhost:4317), or to one that is started from an "
    "executable.",
)
@tls_files
@verbose_option
def up(*, devices: str | None, tls: Tls | None, restart: str, jaeger: str | None, **options: Any) -> None:
    """Start encoders, trackers and gateways, and stop them on Ctrl-C.

    A service that ends is started again on its port, after 0.2 s and later up to 10 s.  A store
    (MASKMESH_SESSION_URL) is required if there are several gateways, or if sessions must survive the end of
    their tracker.
    """
    chosen = tuple(devices.split(",")) if devices else ()
    run(_up(MeshOptions(**options, devices=chosen, tls=tls), restart=restart == "always", jaeger=jaeger))


async def _up(options: MeshOptions, *, restart: bool, jaeger: str | None) -> None:
    try:
        await _serve(options, restart=restart, jaeger=jaeger)
    except asyncio.CancelledError:
        say("stopped")
        raise


async def _serve(options: MeshOptions, *, restart: bool, jaeger: str | None) -> None:
    async with AsyncExitStack() as stack:
        environment = dict(options.environment)
        if is_loopback(f"{options.host}:0"):
            environment["MASKMESH_GATEWAY_REFLECTION"] = "true"  # for grpcurl and similar
        if jaeger is not None:
            environment |= await stack.enter_async_context(traced_to(jaeger))
        options = replace(options, environment=environment)
        mesh = await stack.enter_async_context(LocalMesh(options, log=show_line))
        async with AsyncClient(mesh.endpoint, tls=options.tls) as client, client.session() as session:
            say_model(session.model)
        _say_where_traces_are(environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", ""))
        click.echo(f"maskmesh is ready at {mesh.endpoint}")
        await _supervise(mesh, restart=restart)


def _say_where_traces_are(endpoint: str) -> None:
    settings = load_telemetry(warns=False)  # the services warn
    if endpoint:
        host = endpoint.partition("://")[2].rpartition(":")[0]
        say(f"traces: http://{host}:{UI_PORT}/search?service=maskmesh-gateway")
    elif settings.effective_exporter == "file":
        say(f"traces: maskmesh report {settings.trace_dir}, or start with --jaeger")


async def _supervise(mesh: LocalMesh, *, restart: bool) -> None:
    """Wait until the mesh is stopped or fails."""
    if not restart:
        raise await mesh.first_failure()
    supervisor = mesh.supervisor()
    try:
        await supervisor.run()
    except asyncio.CancelledError:
        if supervisor.given_up:  # the mesh was no longer the one that was asked for
            raise MeshError(supervisor.summary()) from None
        raise
    finally:
        if summary := supervisor.summary():
            say(summary)
