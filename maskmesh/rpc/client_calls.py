"""Calls and call metadata with trace context, for the client and between the services.

Interceptors are not used: gRPC runs every intercepted call in a task of its own, which delays the caller by a
step of the event loop that no span would name, and which outlives a stream that is cancelled.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from maskmesh import telemetry
from maskmesh.rpc.server_interceptor import HOST_KEY, OFFSET_KEY, RECEIVED_KEY, SENT_KEY, TRACE_ID_KEY
from maskmesh.rpc.stream_call import result_now


def call_metadata(headers: Mapping[str, str] | None = None) -> grpc.aio.Metadata:
    """Metadata of a call inside the mesh: the current trace context, and ``headers``."""
    return grpc.aio.Metadata(*telemetry.inject().items(), *(headers or {}).items())


def client_metadata(headers: Mapping[str, str]) -> grpc.aio.Metadata:
    """Metadata of a call from a client to a gateway: the application's trace context, and ``headers``."""
    return grpc.aio.Metadata(*telemetry.inject_at_edge().items(), *headers.items())


class TimedResponse(NamedTuple):
    """A response, when it was received (nanoseconds since the epoch), its transfers, and its trace."""

    message: Any
    received_ns: int
    transfers: Sequence[telemetry.StageRecord]
    trace_id: str


class TracedStub:
    """A stub whose calls have client spans, and whose unary calls have ``transfer`` stages."""

    def __init__(
        self,
        service: ServiceDescriptor,
        make_stub: Callable[[grpc.aio.Channel], Any],
        channel: grpc.aio.Channel,
        target: str,
        *,
        headers: Mapping[str, str] | None = None,
        is_edge: bool = False,
    ) -> None:
        """``target`` is the channel's target, for the spans' ``server.address``; ``headers`` are sent with
        every call.  ``is_edge`` is whether the stub calls a gateway, see :func:`client_metadata`.
        """
        self._stub = make_stub(channel)
        self._service = service.full_name
        self._server = server_attributes(target)
        self._headers = headers or {}
        self._metadata = client_metadata if is_edge else call_metadata

    async def call(self, method: str, request: Any, **options: Any) -> Any:
        """The response of :meth:`timed_call`."""
        return (await self.timed_call(method, request, **options)).message

    async def timed_call(
        self, method: str, request: Any, *, headers: Mapping[str, str] | None = None, **options: Any
    ) -> TimedResponse:
        """Make a unary call; ``options`` are gRPC's.  Raises gRPC's own errors."""
        with client_span(f"{self._service}/{method}", self._server) as span:
            start = time.time_ns()
            metadata = self._metadata({**self._headers, **(headers or {})})
            call = getattr(self._stub, method)(request, metadata=metadata, **options)
            transfers: list[telemetry.StageRecord] = []
            trailing: dict[str, Any] = {}
            try:
                message = await call
            finally:
                if call.done():
                    end = span.end_ns = time.time_ns()
                    trailing = dict(await call.trailing_metadata() or ())
                    transfers = transfers_of(trailing, start, end)
                    telemetry.emit_soon(transfers, span.context)
            return TimedResponse(message, end, transfers, str(trailing.get(TRACE_ID_KEY, "")))

    def stream(
        self, method: str, *arguments: Any, headers: Mapping[str, str] | None = None, **options: Any
    ) -> Any:
        """Begin a call that streams requests or responses; its client span ends when the call has ended.

        ``arguments`` has the request if there is one; ``options`` are gRPC's.
        """
        span = _ClientSpan(f"{self._service}/{method}", self._server)
        token = otel_context.attach(span.context)
        try:
            metadata = self._metadata({**self._headers, **(headers or {})})
            call = getattr(self._stub, method)(*arguments, metadata=metadata, **options)
        finally:
            otel_context.detach(token)
        call.add_done_callback(span.end_stream)
        return call


class _ClientSpan:
    """The client span of a call, by OpenTelemetry's RPC conventions."""

    def __init__(self, method: str, server: telemetry.Attributes) -> None:
        self._offset = telemetry.offset_in()
        self._span = telemetry.tracer().start_span(
            method,
            kind=SpanKind.CLIENT,
            start_time=time.time_ns() - self._offset,
            attributes={telemetry.RPC_SYSTEM: "grpc", telemetry.RPC_METHOD: method, **server},
        )
        self.context = trace.set_span_in_context(self._span)
        self.end_ns: int | None = None
        """When the response was received; None for the time at which the span ends."""

    def end(self, code: grpc.StatusCode | None, *, error: str = "", description: str = "") -> None:
        """End the span.  ``code`` is None for an error of another kind, which ``error`` names."""
        if code is not None:
            self._span.set_attribute(telemetry.RPC_STATUS, code.name)
        if code is not grpc.StatusCode.OK:
            self._span.set_attribute(telemetry.ERROR_TYPE, error if code is None else code.name)
            if code is not grpc.StatusCode.CANCELLED:
                self._span.set_status(Status(StatusCode.ERROR, description))
        self._span.end((self.end_ns or time.time_ns()) - self._offset)

    def end_stream(self, call: Any) -> None:
        """End the span of a stream that has ended."""
        code = result_now(call.code())
        self.end(code, error="unknown", description=result_now(call.details()) or "")


@contextlib.contextmanager
def client_span(method: str, server: telemetry.Attributes) -> Iterator[_ClientSpan]:
    """The client span of a call to ``method``, ``package.Service/Method``, made within the body."""
    span = _ClientSpan(method, server)
    token = otel_context.attach(span.context)
    try:
        yield span
    except grpc.RpcError as error:
        span.end(error.code(), description=error.details() or "")
        raise
    except (asyncio.CancelledError, GeneratorExit):
        span.end(grpc.StatusCode.CANCELLED)
        raise
    except Exception as error:
        span.end(None, error=type(error).__name__)
        raise
    else:
        span.end(grpc.StatusCode.OK)
    finally:
        with contextlib.suppress(ValueError):  # a generator that is closed in another context
            otel_context.detach(token)


def transfers_of(trailing: Mapping[str, Any], start_ns: int, end_ns: int) -> list[telemetry.StageRecord]:
    """The ``transfer`` stages of a call that its caller began and ended at these times.

    ``trailing`` is its trailing metadata; there are no stages if it has no times of the handler.
    """
    if RECEIVED_KEY not in trailing or SENT_KEY not in trailing:
        return []
    handler_ns = int(trailing[RECEIVED_KEY]), int(trailing[SENT_KEY])
    offset_ns = int(trailing.get(OFFSET_KEY, 0)) - telemetry.offset_in()
    host = str(trailing.get(HOST_KEY, ""))
    return telemetry.transfer_stages(host, (start_ns, end_ns), handler_ns, offset_ns)


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
