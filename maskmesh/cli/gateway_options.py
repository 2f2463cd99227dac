"""Which gateway a command talks to: one that runs somewhere, or one of a mesh for this command alone."""

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
from maskmesh.rpc.tls import Tls

console = Console(stderr=True, highlight=False)

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

_TLS_FILES = (
    click.option("--tls-ca", type=_FILE, help="Speak TLS, with these authorities (PEM)."),
    click.option("--tls-cert", type=_FILE, help="Own certificate (PEM)."),
    click.option("--tls-key", type=_FILE, help="Private key of that certificate (PEM)."),
    click.option(
        "--tls-server-name", default="", help="Name in the other end's certificate, if not its host."
    ),
)


def tls_files(command: Callable[..., None]) -> Callable[..., None]:
    """Options for certificates; the command has them as ``tls``."""

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
            raise click.UsageError("certificates are for TLS: --tls-ca is missing")
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
    """A gateway that runs already where there is an ``endpoint``, else one to be started."""

    endpoint: str | None
    api_key: str
    tls: Tls | None


def gateway_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options that say which gateway; the command has them as ``gateway``."""

    @click.option("--endpoint", help="Gateway to use; without one a mesh is started for this run.")
    @click.option("--api-key", default="", envvar="MASKMESH_API_KEY", help="Key that the gateway asks for.")
    @click.option("--tls", "use_tls", is_flag=True, help="Speak TLS, with the authorities of gRPC itself.")
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
    """Do work with the gateway, or with a mesh that lives as long as the work."""
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
    """A mesh that is running has its model; to pass over what was asked for would mislead."""
    context = click.get_current_context()
    for name in ("model", "checkpoint", "image_size", "device", "dtype", "threads"):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = name.replace("_", "-")
            raise click.UsageError(
                f"--{option} is for a mesh that is started; that at --endpoint has its own"
            )
