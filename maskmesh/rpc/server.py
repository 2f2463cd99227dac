"""Running one gRPC server: limits, health, readiness after warm-up, and an orderly end."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from maskmesh.config import ServerSettings, TelemetrySettings, load
from maskmesh.rpc.channel import TAKING_PINGS, channel_options
from maskmesh.rpc.interceptors import Admit, CallGate, ServerInterceptor
from maskmesh.rpc.tls import server_credentials
from maskmesh.telemetry.otel_sdk import serve_metrics, set_up_tracing

logger = logging.getLogger(__name__)

# By this name health says whether the process is there at all, warm or not.
LIVE = "live"

# Running calls have so long to finish, however long what came before took.
MIN_GRACE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What a server serves, and what goes before and after."""

    name: str
    """Short name, for example "encoder"."""
    full_name: str
    """Name of the gRPC service, for health and reflection."""
    register: Callable[[grpc.aio.Server], None]
    """Adds the servicer."""
    start: Callable[[int], Awaitable[None]]
    """Gets the service ready, given its port; it reports SERVING after that."""
    close: Callable[[], Awaitable[None]]
    """Frees what the service holds."""
    admit: Admit | None = None
    """Asked about every call, if there are any that may not be made."""
    drain: Callable[[], Awaitable[None]] | None = None
    """Brings what is under way to an end, and may take its time; calls are still taken meanwhile."""


async def serve(service: Service, settings: ServerSettings) -> None:
    """Serve until SIGTERM or SIGINT, then drain."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)

    gate = CallGate(service.name, settings.max_calls)
    server = grpc.aio.server(
        interceptors=[ServerInterceptor(gate, service.admit)],
        options=[
            *channel_options(settings.max_message_bytes),
            *TAKING_PINGS,
            # A peer that vanished without a word is noticed within half a minute.
            ("grpc.keepalive_time_ms", 20_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            # Two servers on one port would split the calls between them.
            ("grpc.so_reuseport", 0),
            *_connection_age(settings),
        ],
    )
    service.register(server)
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    for name in ("", service.full_name):
        await checks.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)
    await checks.set(LIVE, health_pb2.HealthCheckResponse.SERVING)
    if settings.reflection:
        names = (service.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
    port = _add_port(server, settings)
    await server.start()
    probes = await _serve_probes(checks, settings)
    logger.info("listening on %s:%d", settings.host, port)
    if settings.port_file is not None:
        _write_port(settings.port_file, port)

    starting = asyncio.ensure_future(service.start(port))
    stopping = asyncio.ensure_future(stopped.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            _check_started(service, starting)
            # What is there now stays: to look through it again and again costs time in the middle of calls.
            gc.collect()
            gc.freeze()
            gate.closed_because = ""
            for name in ("", service.full_name):
                await checks.set(name, health_pb2.HealthCheckResponse.SERVING)
            logger.info("ready")
            await stopping
    finally:
        for task in (starting, stopping):
            task.cancel()
        await checks.enter_graceful_shutdown()
        began = time.monotonic()
        if service.drain is not None and not gate.closed_because:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(service.drain(), settings.drain_seconds)
        gate.closed_because = "draining"
        await server.stop(max(settings.drain_seconds - (time.monotonic() - began), MIN_GRACE_SECONDS))
        await service.close()
        if probes is not None:
            await probes.stop(None)
        logger.info("stopped")


def _connection_age(settings: ServerSettings) -> list[tuple[str, int]]:
    """Streams end in their own time; nothing cuts them."""
    seconds = settings.max_connection_age_seconds
    return [("grpc.max_connection_age_ms", int(seconds * 1000))] if seconds else []


def _add_port(server: grpc.aio.Server, settings: ServerSettings) -> int:
    address = f"{settings.host}:{settings.port}"
    if settings.tls_cert is None or settings.tls_key is None:
        return server.add_insecure_port(address)
    try:
        credentials = server_credentials(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
    except (OSError, ValueError) as error:
        raise SystemExit(f"certificates: {error}") from error
    return server.add_secure_port(address, credentials)


async def _serve_probes(
    checks: health.aio.HealthServicer, settings: ServerSettings
) -> grpc.aio.Server | None:
    """The same health on a port of its own, in plain text whatever the others speak."""
    if not settings.health_port:
        return None
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    server.add_insecure_port(f"{settings.host}:{settings.health_port}")
    await server.start()
    return server


def reachable_address(host: str, port: int) -> str:
    """How others reach what listens on ``host``, which may stand for all addresses of this machine."""
    return f"{socket.gethostname() if host in ('0.0.0.0', '[::]', '::') else host}:{port}"


def _check_started(service: Service, starting: "asyncio.Future[None]") -> None:
    """A bad setting or file ends the process with a sentence, anything else with a traceback."""
    try:
        starting.result()
    except (OSError, ValueError) as error:
        raise SystemExit(f"maskmesh-{service.name}: {error}") from error


def _write_port(path: Path, port: int) -> None:
    """Whoever waits for the file sees all of it or nothing."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(f"{port}\n")
    os.replace(temporary, path)


def run(service: Service, settings: ServerSettings) -> None:
    """Set up log and traces, serve, and flush what is left."""
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    traces = load(TelemetrySettings, [])
    if settings.metrics_port:
        serve_metrics(f"maskmesh-{service.name}", host=settings.host, port=settings.metrics_port)
    tracing = set_up_tracing(
        f"maskmesh-{service.name}",
        otlp_endpoint=traces.otlp_endpoint,
        trace_dir=traces.trace_path,
        max_bytes=traces.trace_bytes,
    )
    try:
        asyncio.run(serve(service, settings))
    finally:
        tracing.shutdown()
