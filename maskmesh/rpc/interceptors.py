"""What every call of the mesh has in common: errors as statuses, traces across processes.

OpenTelemetry's own gRPC instrumentation leaks spans of cancelled asyncio streams and knows nothing of the
time between sender and handler, hence interceptors of our own on its propagator API.
"""

import asyncio
import contextlib
import logging
import math
import random
import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode

from maskmesh import telemetry
from maskmesh.errors import (
    InternalError,
    InvalidRequest,
    MaskmeshError,
    ResourceExhausted,
    Unavailable,
    from_rpc_error,
    to_status,
)
from maskmesh.telemetry import metrics

logger = logging.getLogger(__name__)

TRACE_ID_KEY = "maskmesh-trace-id"
RECEIVED_KEY = "maskmesh-received-unix-nanos"
SENT_KEY = "maskmesh-sent-unix-nanos"
_DETAILS_KEY = "grpc-status-details-bin"
_PUSHBACK_KEY = "grpc-retry-pushback-ms"
_NEVER = "-1"


# When to come again to a server that has too many calls.
FULL_SECONDS = 1.0


@dataclass(slots=True)
class CallGate:
    """Whether a server takes calls.  ``closed_because`` is empty while it does."""

    service: str
    max_calls: int
    closed_because: str = "starting"
    _calls: int = 0

    @contextlib.contextmanager
    def enter(self) -> Iterator[None]:
        """Let a call in.  Raises Unavailable while the gate is closed, ResourceExhausted at the limit."""
        if self.closed_because:
            raise Unavailable(f"the {self.service} is {self.closed_because}", service=self.service)
        if self._calls >= self.max_calls:
            raise ResourceExhausted(
                f"the {self.service} has {self._calls} calls to do",
                resource="calls",
                retry_seconds=FULL_SECONDS * random.uniform(0.5, 1.5),
            )
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1


_MALFORMED = object()


def _parser(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """gRPC calls it a fault of the server where a message cannot be parsed; it is the caller's."""

    def parse_or_mark(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError:
            return _MALFORMED

    return parse_or_mark


def _checked(request: Any) -> Any:
    """Raises InvalidRequest where a message could not be parsed."""
    if request is _MALFORMED:
        raise InvalidRequest("the message cannot be parsed", field="request")
    return request


class _Requests:
    """The messages of a stream, each of which is checked."""

    def __init__(self, requests: AsyncIterable[Any]) -> None:
        self._requests = aiter(requests)

    def __aiter__(self) -> "_Requests":
        return self

    async def __anext__(self) -> Any:
        return _checked(await anext(self._requests))


Admit: TypeAlias = Callable[[Mapping[str, str]], None]
"""Told the metadata of a call; raises where it may not be made."""


class ServerInterceptor(grpc.aio.ServerInterceptor):
    """A span, an error table and a trace id for every call of maskmesh's own services."""

    def __init__(self, gate: CallGate, admit: Admit | None = None) -> None:
        """``admit`` is asked about every call."""
        self._gate = gate
        self._admit = admit
        self._wrapped: dict[str, Any] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The wrapped handler of a method."""
        method = handler_call_details.method
        if method not in self._wrapped:
            handler = await continuation(handler_call_details)
            if handler is None or not method.startswith("/maskmesh."):
                return handler
            self._wrapped[method] = self._wrap(handler, method)
        return self._wrapped[method]

    def _wrap(self, handler: Any, method: str) -> Any:
        """A handler of the same kind, whichever of the four, that does what every call needs."""
        behaviour: Any = (
            handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        )

        read: Callable[[Any], Any] = _Requests if handler.request_streaming else _checked

        async def call(request: Any, context: Any) -> Any:
            async with self._handle(method, context):
                return await behaviour(read(request), context)

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            async with self._handle(method, context):
                async for response in behaviour(read(request), context):
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
        received = time.time_ns()
        metadata = {k: v for k, v in context.invocation_metadata() if isinstance(v, str)}
        parent = telemetry.extract(metadata)
        with _server_span(method, parent, received) as span:

            def trailing() -> tuple[tuple[str, str], ...]:
                times = ((RECEIVED_KEY, str(received)), (SENT_KEY, str(time.time_ns())))
                return ((TRACE_ID_KEY, telemetry.trace_id(span)), *times)

            try:
                with self._gate.enter():
                    if self._admit is not None:
                        self._admit(metadata)
                    yield
            except (Exception, asyncio.CancelledError) as caught:
                raised: BaseException = caught
                task = asyncio.current_task()
                if isinstance(raised, asyncio.CancelledError) and task is not None and task.cancelling():
                    _record(span, method, grpc.StatusCode.CANCELLED, received)
                    raise
                if isinstance(raised, grpc.RpcError):
                    raised = from_rpc_error(raised)
                details: tuple[tuple[str, str | bytes], ...] = ()
                if isinstance(raised, grpc.RpcError):
                    code, text = raised.code(), raised.details() or ""
                else:
                    error = raised if isinstance(raised, MaskmeshError) else _internal(raised, method)
                    status = to_status(error)
                    code, text = error.code, error.message
                    details = ((_DETAILS_KEY, status.SerializeToString()),)
                span.set_status(Status(StatusCode.ERROR, text))
                _record(span, method, code, received)
                if isinstance(raised, ResourceExhausted):
                    metrics.count_refused(raised.metadata["resource"])
                    # To gRPC itself, whose clients try again by themselves: after this time, or not at all.
                    delay = str(math.ceil(raised.retry_seconds * 1000)) if raised.passes else _NEVER
                    details += ((_PUSHBACK_KEY, delay),)
                await context.abort(code, text, (*trailing(), *details))
            else:
                _record(span, method, grpc.StatusCode.OK, received)
                context.set_trailing_metadata(trailing())


@contextlib.contextmanager
def _server_span(method: str, parent: Context, received_ns: int) -> Iterator[trace.Span]:
    """The span of a call that is handled within it."""
    name = method.lstrip("/")
    span = telemetry.tracer().start_span(
        name,
        context=parent,
        kind=SpanKind.SERVER,
        start_time=received_ns,
        attributes={"rpc.system.name": "grpc", "rpc.method": name},
    )
    token = otel_context.attach(trace.set_span_in_context(span, parent))
    is_abandoned = False
    try:
        yield span
    except GeneratorExit:
        # A stream whose client has left is closed by whoever finds it, in another context than its own.
        is_abandoned = True
        _record(span, method, grpc.StatusCode.CANCELLED, received_ns)
        raise
    finally:
        if not is_abandoned:
            otel_context.detach(token)
        span.end()


def _record(span: trace.Span, method: str, code: grpc.StatusCode, received_ns: int) -> None:
    """What became of a call."""
    span.set_attribute("rpc.response.status_code", code.name)
    metrics.record_call(method.lstrip("/"), code.name, (time.time_ns() - received_ns) / 1e9)


def _internal(raised: BaseException, method: str) -> InternalError:
    error_id = uuid.uuid4().hex[:8]
    logger.error("internal error %s in %s", error_id, method, exc_info=raised)
    return InternalError(f"internal error {error_id}", error_id=error_id)


class TracingUnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    """Passes the current trace on, and headers that every call has."""

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        self._headers = headers

    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: Any, request: Any
    ) -> Any:
        """Make the call within the current trace."""
        return await continuation(with_trace(client_call_details, self._headers), request)


class TracingUnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    """Passes the current trace on, and headers that every call has."""

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        self._headers = headers

    async def intercept_unary_stream(
        self, continuation: Callable[..., Any], client_call_details: Any, request: Any
    ) -> Any:
        """Make the call within the current trace."""
        return await continuation(with_trace(client_call_details, self._headers), request)


def tracing(headers: Mapping[str, str] | None = None) -> list[grpc.aio.ClientInterceptor]:
    """Interceptors that pass the current trace on in every call but those that stream requests."""
    return [TracingUnaryUnary(headers), TracingUnaryStream(headers)]


def trace_metadata(headers: Mapping[str, str] | None = None) -> grpc.aio.Metadata:
    """Passes the current trace on in a call that has no interceptor, and other headers.

    An intercepted call costs gRPC a task of its own; between an intercepted stream and its writer there is a
    queue as well, and the task outlives a call that is cancelled.
    """
    return grpc.aio.Metadata(*telemetry.inject().items(), *(headers or {}).items())


class Answer(NamedTuple):
    """An answer, and when it was here: nanoseconds since the epoch."""

    message: Any
    received_ns: int


async def traced_call(stub: Any, method: str, request: Any, **options: Any) -> Any:
    """The answer of :func:`timed_call` alone."""
    return (await timed_call(stub, method, request, **options)).message


async def timed_call(
    stub: Any, method: str, request: Any, *, headers: Mapping[str, str] | None = None, **options: Any
) -> Answer:
    """Make a unary call with a client span, and the time on the wire as ``transfer`` spans.

    ``method`` is its name in the stub.  Not an interceptor: between an interceptor and its caller lies a
    turn of the event loop, which would belong to nobody.
    """
    name = f"{type(stub).__name__.removesuffix('Stub')}/{method}"
    with client_span(name):
        start = time.time_ns()
        call = getattr(stub, method)(request, metadata=trace_metadata(headers), **options)
        try:
            message = await call
            received = time.time_ns()
        finally:
            if call.done():
                end = time.time_ns()
                metadata = dict(await call.trailing_metadata() or ())
                if RECEIVED_KEY in metadata and SENT_KEY in metadata:
                    handled = int(metadata[RECEIVED_KEY]), int(metadata[SENT_KEY])
                    telemetry.emit(transfers((start, end), handled), None)
        return Answer(message, received)


def client_span(method: str) -> contextlib.AbstractContextManager[trace.Span]:
    """The span of a call that is made within it."""
    return telemetry.tracer().start_as_current_span(
        method,
        kind=SpanKind.CLIENT,
        attributes={"rpc.system.name": "grpc", "rpc.method": method},
        record_exception=False,
    )


def with_trace(details: Any, headers: Mapping[str, str] | None = None) -> Any:
    """Call details with the W3C headers of the current context, and others."""
    metadata = grpc.aio.Metadata(*(details.metadata or ()))
    for key, value in trace_metadata(headers):
        metadata.add(key, value)
    return details._replace(metadata=metadata)


def transfers(outer: tuple[int, int], handled: tuple[int, int]) -> list[telemetry.StageRecord]:
    """The stretches between sender and handler.

    ``outer`` is when the sender sent and had the answer, ``handled`` when the handler had the request and
    was done, in nanoseconds.  Where the clocks of two hosts disagree, the handler is placed in the middle
    of what the sender saw.
    """
    start, end = outer
    received, sent = handled
    if received < start or sent > end:
        slack = max(0, (end - start) - (sent - received))
        received, sent = start + slack // 2, end - slack // 2
    return [
        telemetry.StageRecord(telemetry.TRANSFER, start, received, {telemetry.DIRECTION: "request"}),
        telemetry.StageRecord(telemetry.TRANSFER, sent, end, {telemetry.DIRECTION: "response"}),
    ]


def current_trace_id() -> str:
    """The id of the current trace, empty where nothing is traced."""
    return telemetry.trace_id(trace.get_current_span())
