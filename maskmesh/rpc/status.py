"""Errors as gRPC statuses with details, and back.

The details follow AIP-193: the reason is in ``google.rpc.ErrorInfo``, the field in ``BadRequest``, the retry
delay in ``RetryInfo``.
"""

import contextlib
import functools
import math
import re
from collections.abc import Iterator, Mapping
from http.client import responses as http_responses
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from maskmesh.errors import (
    InternalError,
    InvalidRequest,
    MaskmeshError,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    all_errors,
)
from maskmesh.v1 import error_reason_pb2

DOMAIN = "maskmesh"

_PREFIX = "ERROR_REASON_"


@functools.cache
def _by_reason() -> dict[str, type[MaskmeshError]]:
    classes = {c.reason: c for c in all_errors() if "reason" in vars(c) and c is not MaskmeshError}
    classes[InternalError.reason] = InternalError
    return {
        error_reason_pb2.ErrorReason.Name(reason).removeprefix(_PREFIX): c for reason, c in classes.items()
    }


def to_status(error: MaskmeshError) -> status_pb2.Status:
    """The gRPC status of an error."""
    name = error_reason_pb2.ErrorReason.Name(error.reason)
    details: list[Any] = [
        error_details_pb2.ErrorInfo(reason=name.removeprefix(_PREFIX), domain=DOMAIN, metadata=error.metadata)
    ]
    if isinstance(error, InvalidRequest):
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=error.message)
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, ResourceExhausted):
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(math.ceil(error.retry_seconds * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=code_pb2.Code.Value(error.code.name), message=error.message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def from_rpc_error(error: grpc.RpcError) -> Exception:
    """The error that a server raised, or ``error`` itself if maskmesh did not raise it.

    The loss of a connection becomes :class:`Unavailable`, and so does a call that a stopping server
    cancelled; deadlines keep gRPC's own exception.
    """
    try:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]
    except ValueError:  # the details contradict the status: they are not maskmesh's
        return error
    if status is None:
        if (known := _not_from_maskmesh(error.code(), error.details() or "")) is not None:
            return known
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return Unavailable(f"the service is unreachable: {error.details()}")
        if error.code() is grpc.StatusCode.CANCELLED:
            return Unavailable("the service stopped in the middle of the call")
        return error
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in status.details:
        detail.Unpack(info) if detail.Is(info.DESCRIPTOR) else detail.Unpack(retry)
    if info.domain != DOMAIN or info.reason not in _by_reason():
        return error
    rebuilt = _rebuild(_by_reason()[info.reason], status.message, info.metadata)
    if isinstance(rebuilt, ResourceExhausted):
        rebuilt.retry_seconds = retry.retry_delay.ToNanoseconds() / 1e9
    return rebuilt


def _not_from_maskmesh(code: grpc.StatusCode, details: str) -> MaskmeshError | None:
    """The error of a proxy, or of gRPC itself, that has a better explanation than its own; else None."""
    if (http := re.search(r"status: (\d{3})\b", details)) is not None:
        status = int(http[1])
        phrase = http_responses.get(status, "no reason given")
        message = f"a proxy before the gateway answered HTTP {status} ({phrase})"
        if status in (401, 403):
            return Unauthenticated(message)
        if status == 413:
            return ResourceExhausted(f"{message}: raise its limit on request bodies", resource="proxy")
        return Unavailable(message)
    if "HTTP transport" in details:
        return Unavailable(
            "the connection was closed in the middle of a request, possibly by a proxy that limits its size"
        )
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in details:
        return ResourceExhausted(
            f"the message is larger than its receiver accepts (max_message_bytes): {details}",
            resource="message",
        )
    return None


def from_reason(reason: int, message: str, metadata: Mapping[str, str]) -> MaskmeshError:
    """The error of a message in a stream."""
    names = {number: name for name, number in error_reason_pb2.ErrorReason.items()}
    name = names.get(reason, "").removeprefix(_PREFIX)
    return _rebuild(_by_reason().get(name, InternalError), message, metadata)


def _rebuild(kind: type[MaskmeshError], message: str, metadata: Mapping[str, str]) -> MaskmeshError:
    rebuilt = kind.__new__(kind)
    MaskmeshError.__init__(rebuilt, message, **dict(metadata))
    if isinstance(rebuilt, ResourceExhausted):
        rebuilt.retry_seconds = 1.0
    return rebuilt


@contextlib.contextmanager
def translate_rpc_errors() -> Iterator[None]:
    """Raise the errors of gRPC in the body as the classes that the server raised."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error) from error
