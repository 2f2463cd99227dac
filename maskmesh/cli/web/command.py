"""The command ``maskmesh web``."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import click

from maskmesh.cli.mesh.gateway_options import Gateway, gateway_options, with_gateway
from maskmesh.cli.mesh.local_mesh import MeshOptions
from maskmesh.cli.mesh.mesh_options import mesh_options
from maskmesh.cli.run import run, say, verbose_option
from maskmesh.client.async_client import AsyncClient
from maskmesh.telemetry.config import DEFAULT_TRACE_DIR, load_telemetry

PORT = 8050


@click.command()
@mesh_options
@gateway_options
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=PORT, show_default=True, help="Port of the page; 0 chooses one.")
@click.option(
    "--sample",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Clip that the page offers to open.",
)
@verbose_option
def web(*, gateway: Gateway, host: str, port: int, sample: Path | None, **options: Any) -> None:
    """Serve a page for clips, pictures and the camera: click, correct, propagate, export.

    The page belongs to whoever can reach it, so it listens on this machine only unless --host says
    otherwise.  Without --endpoint a mesh is started:

        maskmesh web --sample tools/sample/clip.mp4
    """
    if host in ("0.0.0.0", "::"):
        raise click.UsageError(
            f"--host {host}: give the address or name by which browsers reach this machine, because the page "
            "answers that one only"
        )
    try:
        # Imported here, because only this command needs aiohttp, which is an extra.
        from aiohttp import web as aiohttp_web

        from maskmesh.cli.web.app import WebApp
    except ImportError as error:
        raise click.ClickException(f"{error}; pip install 'maskmesh[web]'") from error

    with tempfile.TemporaryDirectory(prefix="maskmesh-web-traces-") as folder:
        traces = _trace_folder(gateway, Path(folder))
        environment = {} if traces is None else {"MASKMESH_TRACE_DIR": str(traces)}

        async def work(client: AsyncClient) -> None:
            hosts = ("127.0.0.1", "localhost", "::1", host.lower())
            app = WebApp(client, hosts=hosts, traces=traces, sample=sample).application()
            runner = aiohttp_web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
            await runner.setup()
            try:
                site = aiohttp_web.TCPSite(runner, host, port)
                await site.start()
                # The name that was given, because the page answers no other.
                name = f"[{host}]" if ":" in host else host
                say(f"the page is at http://{name}:{runner.addresses[0][1]}/")
                await asyncio.Event().wait()
            finally:
                await runner.cleanup()

        run(with_gateway(work, gateway, MeshOptions(**options, environment=environment)))


def _trace_folder(gateway: Gateway, own: Path) -> Path | None:
    """The folder of the trace files that the page can read; None if traces go elsewhere."""
    settings = load_telemetry(warns=False)
    if gateway.endpoint is not None or settings.effective_exporter != "file":
        return None
    return own if settings.trace_dir == DEFAULT_TRACE_DIR else Path(settings.trace_dir).resolve()
