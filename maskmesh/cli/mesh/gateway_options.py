"""Options that choose a command's gateway: a running one, or that of a mesh that the command starts."""

import asyncio
import functools
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from maskmesh.cli.mesh.local_mesh import LocalMesh, MeshOptions
from maskmesh.cli.run import console, is_verbose, say, warn
from maskmesh.client.async_client import AsyncClient
from maskmesh.types import Tls

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
        if endpoint is None:
            _refuse_client_options()
        if use_tls and tls is None:
            tls = Tls()
        command(gateway=Gateway(endpoint, api_key, tls), **others)

    decorated: Callable[..., None] = with_gateway_of
    return decorated


async def with_gateway(
    work: Callable[[AsyncClient], Awaitable[None]],
    gateway: Gateway,
    options: MeshOptions,
) -> None:
    """Run ``work`` with a client of the gateway, or of a mesh that is started and stopped for it."""
    if gateway.endpoint is not None:
        _refuse_model_options()
        async with AsyncClient(gateway.endpoint, api_key=gateway.api_key, tls=gateway.tls) as client:
            await work(client)
        return
    telemetry_warnings = TelemetryWarnings()

    def log(name: str, line: str) -> None:
        if is_shown:
            show_line(name, line)
        else:
            telemetry_warnings.read(line)

    is_shown = is_verbose()
    with console.status(f"starting a mesh with {options.model}"):
        mesh = await LocalMesh(options, log=log).__aenter__()
    try:
        async with AsyncClient(mesh.endpoint) as client:
            await _work_while_served(mesh, work(client))
    finally:
        await mesh.stop()
        telemetry_warnings.summarize()


async def _work_while_served(mesh: LocalMesh, work: Awaitable[None]) -> None:
    """Await work, which is cancelled when a service ends.  Raises MeshError then."""
    working = asyncio.ensure_future(work)
    failing = asyncio.ensure_future(mesh.first_failure())
    try:
        await asyncio.wait({working, failing}, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        raise
    finally:
        failing.cancel()
    if working.done():
        working.result()
        return
    failure = failing.result()
    working.cancel(str(failure).partition("\n")[0].rstrip(":"))
    await asyncio.gather(working, return_exceptions=True)
    raise failure


class TelemetryWarnings:
    """The warnings of services about traces, each once, and the number of spans that they lost.

    Traces are what the user asked for, so they are shown even if the services' logs are not.
    """

    _WARNING = re.compile(r" WARNING maskmesh\.telemetry[\w.]*: (.*)")
    _LOST = re.compile(r"(\d+) spans were lost(.*)")

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._num_lost = 0
        self._reason = ""

    def read(self, line: str) -> None:
        """Read a line of a service's log."""
        if (warning := self._WARNING.search(line)) is None:
            return
        if (lost := self._LOST.match(warning[1])) is not None:
            self._num_lost += int(lost[1])
            self._reason = lost[2]
        elif warning[1] not in self._seen:
            self._seen.add(warning[1])
            warn(warning[1])

    def summarize(self) -> None:
        """Print the number of lost spans, if there are any."""
        if self._num_lost:
            warn(f"{self._num_lost} spans were lost{self._reason}")


def show_line(name: str, line: str) -> None:
    """Show a line of a service's log."""
    say(f"{name:10} {line}")


def _refuse_client_options() -> None:
    """Raises UsageError if the command line says how to reach a gateway, and a mesh is started."""
    context = click.get_current_context()
    for name in ("api_key", "use_tls", "tls_ca", "tls_cert", "tls_key", "tls_server_name"):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = name.removeprefix("use_").replace("_", "-")
            raise click.UsageError(f"--{option} has no effect without --endpoint: a mesh is started here")


def _refuse_model_options() -> None:
    """Raises UsageError if the command line has model options, which do not affect a running mesh."""
    context = click.get_current_context()
    for name in (
        "model",
        "checkpoint",
        "vocabulary",
        "preset_name",
        "image_size",
        "device",
        "dtype",
        "threads",
        "max_batch",
        "point_model",
        "point_checkpoint",
        "erase_model",
        "motion_checkpoint",
    ):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = name.removesuffix("_name").replace("_", "-")
            raise click.UsageError(
                f"--{option} has no effect with --endpoint: the model of a running mesh is fixed"
            )
