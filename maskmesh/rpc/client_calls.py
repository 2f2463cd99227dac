"""Unary calls and call metadata with trace context, for the client and between the services.

Interceptors are not used: gRPC runs every intercepted call in a task of its own, which delays the caller by a
step of the event loop that no span would name, and which outlives a stream that is cancelled.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from maskmesh import telemetry
from maskmesh.rpc.server_interceptor import RECEIVED_KEY, SENT_KEY


def call_metadata(headers: Mapping[str, str] | None = None) -> grpc.aio.Metadata:
    """Metadata of a call inside the mesh: the current trace context, and ``headers``."""
    return grpc.aio.Metadata(*telemetry.inject().items(), *(headers or {}).items())


def client_metadata(headers: Mapping[str, str]) -> grpc.aio.Metadata:
    """Metadata of a call from a client to a gateway: the application's trace context, and ``headers``."""
    return grpc.aio.Metadata(*telemetry.inject_at_edge().items(), *headers.items())


class TimedResponse(NamedTuple):
    """A response, and when it was received: nanoseconds since the epoch."""

    message: Any
    received_ns: int


class TracedStub:
    """A stub whose unary calls have client spans and ``transfer`` stages.

    ``stub`` is gRPC's own, for streams.
    """

    def __init__(
        self,
        service: ServiceDescriptor,
        make_stub: Callable[[grpc.aio.Channel], Any],
        channel: grpc.aio.Channel,
        target: str,
    ) -> None:
        """``target`` is the channel's target, for the spans' ``server.address``."""
        self.stub = make_stub(channel)
        self._service = service.full_name
        self._server = server_attributes(target)

    async def call(self, method: str, request: Any, **options: Any) -> Any:
        """The response of :meth:`timed_call`."""
        return (await self.timed_call(method, request, **options)).message

    async def timed_call(
        self, method: str, request: Any, *, headers: Mapping[str, str] | None = None, **options: Any
    ) -> TimedResponse:
        """Make a unary call; ``options`` are gRPC's.  Raises gRPC's own errors."""
        with self.span(method):
            start = time.time_ns()
            call = getattr(self.stub, method)(request, metadata=call_metadata(headers), **options)
            try:
                message = await call
                received = time.time_ns()
            finally:
                if call.done():
                    end = time.time_ns()
                    metadata = dict(await call.trailing_metadata() or ())
                    if RECEIVED_KEY in metadata and SENT_KEY in metadata:
                        handled = int(metadata[RECEIVED_KEY]), int(metadata[SENT_KEY])
                        telemetry.emit(telemetry.transfer_stages((start, end), handled), None)
            return TimedResponse(message, received)

    def span(self, method: str) -> contextlib.AbstractContextManager[trace.Span]:
        """The client span of a call that is made within it."""
        return client_span(f"{self._service}/{method}", self._server)


@contextlib.contextmanager
def client_span(method: str, server: telemetry.Attributes) -> Iterator[trace.Span]:
    """The client span of a call to ``method``, ``package.Service/Method``, by OpenTelemetry's RPC
    conventions.
    """
    with telemetry.tracer().start_as_current_span(
        method,
        kind=SpanKind.CLIENT,
        attributes={telemetry.RPC_SYSTEM: "grpc", telemetry.RPC_METHOD: method, **server},
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield span
        except grpc.RpcError as error:
            code = error.code().name
            span.set_attributes({telemetry.RPC_STATUS: code, telemetry.ERROR_TYPE: code})
            span.set_status(Status(StatusCode.ERROR, error.details() or ""))
            raise
        except asyncio.CancelledError:
            cancelled = grpc.StatusCode.CANCELLED.name
            span.set_attributes({telemetry.RPC_STATUS: cancelled, telemetry.ERROR_TYPE: cancelled})
            raise
        except Exception as error:
            span.set_attribute(telemetry.ERROR_TYPE, type(error).__name__)
            span.set_status(Status(StatusCode.ERROR))
            raise
        else:
            span.set_attribute(telemetry.RPC_STATUS, grpc.StatusCode.OK.name)


def server_attributes(target: str) -> telemetry.Attributes:
    """``server.address`` and ``server.port`` of a gRPC target; a target of several addresses stands as it
    is.
    """
    address = target.removeprefix("dns:///").removeprefix("ipv4:").removeprefix("ipv6:")
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "," in address:
        return {telemetry.SERVER_ADDRESS: address}
    return {telemetry.SERVER_ADDRESS: host.strip("[]"), telemetry.SERVER_PORT: int(port)}


def current_trace_id() -> str:
    """The id of the current trace, 32 hexadecimal digits; empty when nothing is traced."""
    return telemetry.trace_id(trace.get_current_span())
