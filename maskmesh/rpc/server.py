"""Runs one gRPC server: limits, health, readiness after warm-up, draining."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from maskmesh.config import ServerSettings
from maskmesh.rpc.addresses import bare_host, join_address
from maskmesh.rpc.channel import SERVER_KEEPALIVE_OPTIONS, message_size_options
from maskmesh.rpc.parent import end_with_parent
from maskmesh.rpc.server_interceptor import Authenticate, CallGate, ServerInterceptor
from maskmesh.rpc.tls import server_credentials
from maskmesh.telemetry import metrics
from maskmesh.telemetry.config import drop_invalid_limits, load_telemetry

logger = logging.getLogger(__name__)

# The name in the health checks for liveness: SERVING from the start, also before the service is ready.
LIVE = "live"

# The least time that calls in progress have to finish after draining.
MIN_GRACE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service, with the functions that start, drain and close it."""

    name: str
    """Short name, for example "encoder"."""
    full_name: str
    """Name of the gRPC service, for health checks and reflection."""
    register: Callable[[grpc.aio.Server], None]
    """Adds the servicer to a server."""
    start: Callable[[int], Awaitable[None]]
    """Makes the service ready, given its port; after that it reports SERVING."""
    close: Callable[[], Awaitable[None]]
    """Frees the resources of the service."""
    authenticate: Authenticate | None = None
    """Checks the metadata of every call."""
    is_edge: bool = False
    """Whether clients call the service, rather than other services of the mesh."""
    drain: Callable[[], Awaitable[None]] | None = None
    """Moves or ends the work in progress, within ``drain_seconds``; calls are still served meanwhile."""


async def serve(service: Service, settings: ServerSettings) -> bool:
    """Serve until SIGTERM, SIGINT or SIGHUP, then drain; returns whether the service became ready."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it
        loop.add_signal_handler(signal.SIGHUP, stopped.set)

    gate = CallGate(service.name, settings.max_calls)
    metrics.observe(
        metrics.CALLS,
        lambda: {"in_flight": gate.num_calls, "limit": gate.max_calls},
        by="kind",
        unit="{call}",
        description="Calls in progress, and their limit",
    )
    server = grpc.aio.server(
        interceptors=[ServerInterceptor(gate, service.authenticate, is_edge=service.is_edge)],
        options=[
            *message_size_options(settings.max_message_bytes),
            *SERVER_KEEPALIVE_OPTIONS,
            # A peer that vanished is detected within half a minute.
            ("grpc.keepalive_time_ms", 20_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            # Without this a second server on the port would take half of the calls.
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
    logger.info("listening on %s", join_address(settings.host, port))
    if settings.port_file is not None:
        _write_port(settings.port_file, port)

    starting = asyncio.ensure_future(service.start(port))
    stopping = asyncio.ensure_future(stopped.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            _check_started(service, starting)
            # Objects made at the start live as long as the process: collections need not traverse them.
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
        drain_start = time.monotonic()
        if service.drain is not None and not gate.closed_because:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(service.drain(), settings.drain_seconds)
        gate.closed_because = "draining"
        await server.stop(max(settings.drain_seconds - (time.monotonic() - drain_start), MIN_GRACE_SECONDS))
        await service.close()
        if probes is not None:
            await probes.stop(None)
        logger.info("stopped")
    return starting.done() and not starting.cancelled()


def _connection_age(settings: ServerSettings) -> list[tuple[str, int]]:
    seconds = settings.max_connection_age_seconds
    return [("grpc.max_connection_age_ms", int(seconds * 1000))] if seconds else []


def _add_port(server: grpc.aio.Server, settings: ServerSettings) -> int:
    credentials = None
    if settings.tls_cert is not None and settings.tls_key is not None:
        try:
            credentials = server_credentials(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
        except (OSError, ValueError) as error:
            raise SystemExit(f"the certificates cannot be used: {error}") from error
    return _listen(server, settings.host, settings.port, credentials)


def _listen(
    server: grpc.aio.Server, host: str, port: int, credentials: grpc.ServerCredentials | None = None
) -> int:
    """Listen on a port; returns its number.  Exits with a sentence if that is not possible."""
    address = join_address(host, port)
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise SystemExit(f"cannot listen on {address}: {_listen_failure(host, port) or error}") from error


def _listen_failure(host: str, port: int) -> str:
    """Why a port cannot be listened on, which gRPC does not tell."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            bare_host(host), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen()
    except OSError as error:
        return error.strerror or str(error)
    return ""


async def _serve_probes(
    checks: health.aio.HealthServicer, settings: ServerSettings
) -> grpc.aio.Server | None:
    """Serve health checks on a separate port, always in plain text."""
    if not settings.health_port:
        return None
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    _listen(server, settings.host, settings.health_port)
    await server.start()
    return server


def _check_started(service: Service, starting: "asyncio.Future[None]") -> None:
    """Exit with a message for an invalid setting or file, and with a traceback for anything else."""
    try:
        starting.result()
    except (OSError, ValueError) as error:
        raise SystemExit(f"maskmesh-{service.name}: {error}") from error


def _write_port(path: Path, port: int) -> None:
    """Write the port atomically: a reader sees the whole file or none."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(f"{port}\n")
    os.replace(temporary, path)


def run(service: Service, settings: ServerSettings) -> None:
    """Set up logging, traces and metrics, serve, and export the remaining spans."""
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    end_with_parent()
    drop_invalid_limits()
    # OpenTelemetry reads its limits on import.
    from maskmesh.telemetry.otel_sdk import set_up_tracing, shut_down_tracing

    if settings.metrics_port:
        _serve_metrics(service, settings)
    provider = set_up_tracing(f"maskmesh-{service.name}", load_telemetry())
    try:
        was_ready = asyncio.run(serve(service, settings))
    finally:
        shut_down_tracing(provider)
    if not was_ready:
        # Threads may still load or warm up the model, and a library would abort if they were torn down.
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _serve_metrics(service: Service, settings: ServerSettings) -> None:
    from maskmesh.telemetry.otel_sdk import serve_metrics

    try:
        serve_metrics(f"maskmesh-{service.name}", host=bare_host(settings.host), port=settings.metrics_port)
    except OSError as error:
        address = join_address(settings.host, settings.metrics_port)
        raise SystemExit(f"cannot listen on {address}: {error.strerror or error}") from error
    except Exception as error:  # a variable that OpenTelemetry cannot read
        logger.warning("metrics are not served: %s", error)
