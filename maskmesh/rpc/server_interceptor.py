"""Every call of a server: admission, authentication, errors as statuses, a span, metrics.

The interceptors are maskmesh's own, on OpenTelemetry's propagation API: OpenTelemetry's gRPC instrumentation
leaks the spans of cancelled asyncio streams, and does not measure the time between sender and handler.
"""

import asyncio
import contextlib
import logging
import math
import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode

from maskmesh import telemetry
from maskmesh.errors import InternalError, InvalidRequest, MaskmeshError, ResourceExhausted, Unavailable
from maskmesh.rpc.status import from_rpc_error, to_status
from maskmesh.scheduling.admission import CALL_SECONDS, retry_after
from maskmesh.telemetry import metrics

logger = logging.getLogger(__name__)

TRACE_ID_KEY = "maskmesh-trace-id"
RECEIVED_KEY = "maskmesh-received-unix-nanos"
SENT_KEY = "maskmesh-sent-unix-nanos"
HOST_KEY = "maskmesh-host"
OFFSET_KEY = "maskmesh-clock-offset-nanos"
_DETAILS_KEY = "grpc-status-details-bin"

# gRPC clients with retries enabled wait for this many milliseconds, or do not retry for a negative value.
_PUSHBACK_KEY = "grpc-retry-pushback-ms"
_NO_RETRY = "-1"

# Codes that are errors of a server, by OpenTelemetry's RPC conventions; the others are the caller's.
_SERVER_ERRORS = {
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
}

Authenticate: TypeAlias = Callable[[Mapping[str, str]], None]
"""Gets the metadata of a call; raises Unauthenticated for a call that is not allowed."""


@dataclass(slots=True)
class CallGate:
    """Admission of calls to a server.  ``closed_because`` is empty while the server serves."""

    service: str
    max_calls: int
    closed_because: str = "starting"
    num_calls: int = 0
    """Calls in progress."""

    @contextlib.contextmanager
    def admit(self) -> Iterator[None]:
        """Admit a call.  Raises Unavailable while the gate is closed, ResourceExhausted at the limit."""
        if self.closed_because:
            raise Unavailable(f"the {self.service} is {self.closed_because}", service=self.service)
        if self.num_calls >= self.max_calls:
            raise ResourceExhausted(
                f"the {self.service} serves {self.num_calls} calls, its largest number",
                resource="calls",
                retry_seconds=retry_after(CALL_SECONDS),
            )
        self.num_calls += 1
        try:
            yield
        finally:
            self.num_calls -= 1


_MALFORMED = object()


def _parser(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """A parser that marks malformed messages: gRPC would report INTERNAL, but the fault is the caller's."""

    def parse_or_mark(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError:
            return _MALFORMED

    return parse_or_mark


def _checked(request: Any) -> Any:
    """The request.  Raises InvalidRequest if it is malformed."""
    if request is _MALFORMED:
        raise InvalidRequest("the message cannot be parsed", field="request")
    return request


class _CheckedRequests:
    """The requests of a stream, each of them checked."""

    def __init__(self, requests: AsyncIterable[Any]) -> None:
        self._requests = aiter(requests)

    def __aiter__(self) -> "_CheckedRequests":
        return self

    async def __anext__(self) -> Any:
        return _checked(await anext(self._requests))


_received_ns: ContextVar[int] = ContextVar("received_ns")


def received_ns() -> int:
    """When the call that is being handled was received, in nanoseconds since the epoch; now if none is."""
    return _received_ns.get(0) or time.time_ns()


class ServerInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the handlers of maskmesh's own services."""

    def __init__(
        self, gate: CallGate, authenticate: Authenticate | None = None, *, is_edge: bool = False
    ) -> None:
        """``is_edge`` is whether clients call the server, with the propagators of ``OTEL_PROPAGATORS``."""
        self._gate = gate
        self._extract = telemetry.extract_at_edge if is_edge else telemetry.extract
        self._authenticate = authenticate
        self._wrapped: dict[str, Any] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        method = handler_call_details.method
        if method not in self._wrapped:
            handler = await continuation(handler_call_details)
            if handler is None or not method.startswith("/maskmesh."):
                return handler
            self._wrapped[method] = self._wrap(handler, method)
        return self._wrapped[method]

    def _wrap(self, handler: Any, method: str) -> Any:
        """A handler of the same kind around ``handler``."""
        behaviour: Any = (
            handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        )
        check: Callable[[Any], Any] = _CheckedRequests if handler.request_streaming else _checked

        async def call(request: Any, context: Any) -> Any:
            async with self._handle(method, context):
                return await behaviour(check(request), context)

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            async with self._handle(method, context):
                async for response in behaviour(check(request), context):
                    yield response

        kinds: dict[tuple[bool, bool], Callable[..., Any]] = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }
        kind = kinds[handler.request_streaming, handler.response_streaming]
        return kind(
            stream if handler.response_streaming else call,
            request_deserializer=_parser(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )

    @contextlib.asynccontextmanager
    async def _handle(self, method: str, context: Any) -> AsyncIterator[None]:
        received_ns = time.time_ns()
        metadata = {k: v for k, v in context.invocation_metadata() if isinstance(v, str)}
        with _server_span(method, self._extract(metadata), received_ns) as handled:
            try:
                with self._gate.admit():
                    if self._authenticate is not None:
                        self._authenticate(metadata)
                    yield
            except (Exception, asyncio.CancelledError) as raised:
                task = asyncio.current_task()
                if isinstance(raised, asyncio.CancelledError) and task is not None and task.cancelling():
                    handled.record(grpc.StatusCode.CANCELLED)
                    raise
                failure = _failure(raised, method)
                handled.record(failure.code, failure.message)
                trailing = (*handled.trailing_metadata(), *failure.metadata)
                await context.abort(failure.code, failure.message, trailing)
            else:
                handled.record(grpc.StatusCode.OK)
                context.set_trailing_metadata(handled.trailing_metadata())


class _Failure(NamedTuple):
    """The status of a failed call."""

    code: grpc.StatusCode
    message: str
    metadata: tuple[tuple[str, str | bytes], ...] = ()


def _failure(raised: BaseException, method: str) -> _Failure:
    """The status of an exception; an error of another service is passed on."""
    if isinstance(raised, grpc.RpcError):
        raised = from_rpc_error(raised)
    if isinstance(raised, grpc.RpcError):
        return _Failure(raised.code(), raised.details() or "")
    if not isinstance(raised, MaskmeshError):
        error_id = uuid.uuid4().hex[:8]
        logger.error("internal error %s in %s", error_id, method, exc_info=raised)
        raised = InternalError(f"internal error {error_id}", error_id=error_id)
    details: tuple[tuple[str, str | bytes], ...] = ((_DETAILS_KEY, to_status(raised).SerializeToString()),)
    if isinstance(raised, ResourceExhausted):
        metrics.count_refused(raised.metadata["resource"])
        delay = str(math.ceil(raised.retry_seconds * 1000)) if raised.passes else _NO_RETRY
        details += ((_PUSHBACK_KEY, delay),)
    return _Failure(raised.code, raised.message, details)


@dataclass(slots=True)
class _HandledCall:
    """A call that a handler works on, and its server span."""

    method: str
    span: trace.Span
    received_ns: int
    offset_ns: int
    """What is subtracted from the times of its spans."""
    sent_ns: int = 0
    """When the response, or the last one of a stream, was passed to gRPC; 0 before."""

    def record(self, code: grpc.StatusCode, message: str = "") -> None:
        """Record the status in the span and in the metrics; the call ends now."""
        self.sent_ns = time.time_ns()
        self.span.set_attribute(telemetry.RPC_STATUS, code.name)
        if code in _SERVER_ERRORS:
            self.span.set_attribute(telemetry.ERROR_TYPE, code.name)
            self.span.set_status(Status(StatusCode.ERROR, message))
        metrics.record_call(self.method.lstrip("/"), code.name, (self.sent_ns - self.received_ns) / 1e9)

    def trailing_metadata(self) -> tuple[tuple[str, str], ...]:
        """What the caller needs to separate the handler's time from that of the transfers."""
        return (
            (TRACE_ID_KEY, telemetry.trace_id(self.span)),
            (RECEIVED_KEY, str(self.received_ns)),
            (SENT_KEY, str(self.sent_ns)),
            (HOST_KEY, telemetry.this_host()),
            (OFFSET_KEY, str(self.offset_ns)),
        )


@contextlib.contextmanager
def _server_span(method: str, parent: Context, received_ns: int) -> Iterator[_HandledCall]:
    """The server span of a call, by OpenTelemetry's RPC conventions."""
    name = method.lstrip("/")
    offset = telemetry.offset_in(parent)
    span = telemetry.tracer().start_span(
        name,
        context=parent,
        kind=SpanKind.SERVER,
        start_time=received_ns - offset,
        attributes={telemetry.RPC_SYSTEM: "grpc", telemetry.RPC_METHOD: name},
    )
    handled = _HandledCall(method, span, received_ns, offset)
    _received_ns.set(received_ns)
    token = otel_context.attach(trace.set_span_in_context(span, parent))
    is_abandoned = False
    try:
        yield handled
    except GeneratorExit:
        # The generator of a stream whose client has left is closed in another context than its own.
        is_abandoned = True
        handled.record(grpc.StatusCode.CANCELLED)
        raise
    finally:
        if not is_abandoned:
            otel_context.detach(token)
        span.end((handled.sent_ns or time.time_ns()) - offset)
