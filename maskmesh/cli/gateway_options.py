"""Options that choose a command's gateway: a running one, or that of a mesh that the command starts."""

import functools
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from rich.console import Console
from rich.markup import escape

from maskmesh.cli.local_mesh import LocalMesh, MeshOptions
from maskmesh.client.async_client import AsyncClient
from maskmesh.types import Tls

console = Console(stderr=True, highlight=False)

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

_TLS_FILES = (
    click.option("--tls-ca", type=_FILE, help="Use TLS with these certificate authorities (PEM)."),
    click.option("--tls-cert", type=_FILE, help="Certificate to present (PEM)."),
    click.option("--tls-key", type=_FILE, help="Private key of --tls-cert (PEM)."),
    click.option(
        "--tls-server-name", default="", help="Name in the server's certificate, if it is not the host."
    ),
)


def tls_files(command: Callable[..., None]) -> Callable[..., None]:
    """Add the TLS options to a command, which receives them as ``tls``."""

    @functools.wraps(command)
    def with_tls(
        *,
        tls_ca: Path | None,
        tls_cert: Path | None,
        tls_key: Path | None,
        tls_server_name: str,
        **others: Any,
    ) -> None:
        if tls_ca is None and (tls_cert or tls_key or tls_server_name):
            raise click.UsageError("the other TLS options require --tls-ca")
        try:
            tls = None if tls_ca is None else Tls(tls_ca, tls_cert, tls_key, tls_server_name)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        command(tls=tls, **others)

    decorated: Callable[..., None] = with_tls
    for option in reversed(_TLS_FILES):
        decorated = option(decorated)
    return decorated


@dataclass(frozen=True, slots=True)
class Gateway:
    """The gateway of a command: the running one at ``endpoint``, or a new one if ``endpoint`` is None."""

    endpoint: str | None
    api_key: str
    tls: Tls | None


def gateway_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that choose a gateway to a command, which receives them as ``gateway``."""

    @click.option("--endpoint", help="Address of a running gateway; by default a mesh is started.")
    @click.option("--api-key", default="", envvar="MASKMESH_API_KEY", help="API key for the gateway.")
    @click.option("--tls", "use_tls", is_flag=True, help="Use TLS with gRPC's default authorities.")
    @tls_files
    @functools.wraps(command)
    def with_gateway_of(
        *, endpoint: str | None, api_key: str, use_tls: bool, tls: Tls | None, **others: Any
    ) -> None:
        if use_tls and tls is None:
            tls = Tls()
        command(gateway=Gateway(endpoint, api_key, tls), **others)

    decorated: Callable[..., None] = with_gateway_of
    return decorated


async def with_gateway(
    work: Callable[[AsyncClient], Coroutine[Any, Any, None]],
    gateway: Gateway,
    options: MeshOptions,
    *,
    verbose: bool = False,
) -> None:
    """Run ``work`` with a client of the gateway, or of a mesh that is started and stopped for it."""
    if gateway.endpoint is not None:
        _refuse_model_options()
        async with AsyncClient(gateway.endpoint, api_key=gateway.api_key, tls=gateway.tls) as client:
            await work(client)
        return
    log: Callable[[str, str], None] | None = show_line if verbose else None
    with console.status(f"starting a mesh with {options.model}"):
        mesh = await LocalMesh(options, log=log).__aenter__()
    try:
        async with AsyncClient(mesh.endpoint) as client:
            await work(client)
    finally:
        await mesh.stop()


def show_line(name: str, line: str) -> None:
    """Show a line of a service's log."""
    console.print(f"[bold]{name:8}[/bold] {escape(line)}", soft_wrap=True)


def _refuse_model_options() -> None:
    """Raises UsageError if the command line has model options, which do not affect a running mesh."""
    context = click.get_current_context()
    for name in ("model", "checkpoint", "image_size", "device", "dtype", "threads"):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = name.replace("_", "-")
            raise click.UsageError(
                f"--{option} has no effect with --endpoint: the model of a running mesh is fixed"
            )
