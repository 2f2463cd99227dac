"""Every error that maskmesh raises, on either side of the wire.

    MaskmeshError
    +-- InvalidRequest              a field is missing, malformed or out of range
    |   +-- InvalidImage            empty or undecodable
    |   |   +-- ImageTooLarge
    |   +-- InvalidVideo            empty or unreadable
    |   +-- InvalidPrompt           empty, malformed, outside the frame or in conflict
    +-- NotFound
    |   +-- SessionNotFound
    |   +-- ObjectNotFound
    |   +-- PromptNotFound
    |   +-- EmbeddingNotFound       between the services only
    +-- FailedPrecondition
    |   +-- NothingPrompted
    |   +-- ModelMismatch
    |   +-- SessionBusy
    |   +-- FrameOutOfMemory
    |   +-- StaleEpoch              between the services only
    +-- SessionLost                 carries the last frame
    +-- Conflict                    somebody else was faster
    +-- ResourceExhausted           carries a hint when to retry
    +-- Unauthenticated
    +-- Unavailable
    +-- InternalError               the text is in the server's log only

Servers raise these; :mod:`maskmesh.rpc.interceptors` turns them into a status whose details name the reason
(``google.rpc.ErrorInfo``), the field (``BadRequest``) and the delay (``RetryInfo``); clients raise the same
class again.  Source of the form: google.rpc error details (AIP-193).
"""

import contextlib
import functools
import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from maskmesh.v1 import error_reason_pb2

DOMAIN = "maskmesh"

# In the metadata of an error: the service that the one that raised it cannot reach.
UNREACHABLE = "unreachable"
_PREFIX = "ERROR_REASON_"


class MaskmeshError(Exception):
    """The root.  ``metadata`` holds the facts of the error as strings, by the names of ErrorReason."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    reason: ClassVar[int] = error_reason_pb2.ERROR_REASON_INTERNAL

    def __init__(self, message: str, **metadata: object) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = {name: str(value) for name, value in metadata.items()}


class InvalidRequest(MaskmeshError):
    """A field is missing, malformed or out of range; ``field`` names it."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = error_reason_pb2.ERROR_REASON_INVALID_REQUEST

    def __init__(self, message: str, *, field: str, **metadata: object) -> None:
        super().__init__(message, field=field, **metadata)

    @property
    def field(self) -> str:
        """The path of the field in the request, for example ``prompt.points[0].x``."""
        return self.metadata["field"]


class InvalidImage(InvalidRequest):
    """An image is empty or cannot be decoded."""

    reason = error_reason_pb2.ERROR_REASON_INVALID_IMAGE


class ImageTooLarge(InvalidImage):
    """An image has more pixels or bytes than the server takes."""

    reason = error_reason_pb2.ERROR_REASON_IMAGE_TOO_LARGE


class InvalidVideo(InvalidRequest):
    """A video is empty or cannot be read."""

    reason = error_reason_pb2.ERROR_REASON_INVALID_VIDEO


class InvalidPrompt(InvalidRequest):
    """A prompt is empty, malformed, outside the frame or in conflict with earlier ones."""

    reason = error_reason_pb2.ERROR_REASON_INVALID_PROMPT


class NotFound(MaskmeshError):
    """Something that a request names does not exist."""

    code = grpc.StatusCode.NOT_FOUND


class SessionNotFound(NotFound):
    """The session is unknown, deleted or expired."""

    reason = error_reason_pb2.ERROR_REASON_SESSION_NOT_FOUND


class ObjectNotFound(NotFound):
    """The session has no such object."""

    reason = error_reason_pb2.ERROR_REASON_OBJECT_NOT_FOUND


class PromptNotFound(NotFound):
    """Nothing was said of the object on that frame."""

    reason = error_reason_pb2.ERROR_REASON_PROMPT_NOT_FOUND


class EmbeddingNotFound(NotFound):
    """A service does not hold an embedding (any more); the gateway encodes again."""

    reason = error_reason_pb2.ERROR_REASON_EMBEDDING_NOT_FOUND


class FailedPrecondition(MaskmeshError):
    """The request is well formed, but not possible as things are."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class NothingPrompted(FailedPrecondition):
    """The session cannot propagate before an object is prompted."""

    reason = error_reason_pb2.ERROR_REASON_NOTHING_PROMPTED


class ModelMismatch(FailedPrecondition):
    """An embedding was made by another model than the one that should use it."""

    reason = error_reason_pb2.ERROR_REASON_MODEL_MISMATCH


class SessionBusy(FailedPrecondition):
    """The session is already propagating."""

    reason = error_reason_pb2.ERROR_REASON_SESSION_BUSY


class FrameOutOfMemory(FailedPrecondition):
    """The frame was tracked so long ago that what was known then is no longer held."""

    reason = error_reason_pb2.ERROR_REASON_FRAME_OUT_OF_MEMORY


class StaleEpoch(FailedPrecondition):
    """A session has another owner than the caller, or the tracker, believes; the gateway looks it up."""

    reason = error_reason_pb2.ERROR_REASON_STALE_EPOCH


class SessionLost(MaskmeshError):
    """The tracker of a session ended, and what its objects were was kept nowhere else.

    The session and its frames are still there: prompts may be said again, as ``VideoSession.recover`` does.
    """

    code = grpc.StatusCode.DATA_LOSS
    reason = error_reason_pb2.ERROR_REASON_SESSION_LOST

    @property
    def last_frame_index(self) -> int | None:
        """The last frame that was tracked and delivered, None where there was none."""
        text = self.metadata.get("last_frame_index", "")
        return int(text) if text else None


class Conflict(MaskmeshError):
    """Somebody else changed the session meanwhile, or an idempotency key belongs to another request."""

    code = grpc.StatusCode.ABORTED
    reason = error_reason_pb2.ERROR_REASON_CONFLICT


# What is full now and has room again in a moment, unlike the limits of a session or a key.
_PASSING = ("queue", "calls", "cache", "frames_per_second")


class ResourceExhausted(MaskmeshError):
    """A limit is reached; ``retry_seconds`` says when to try again."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = error_reason_pb2.ERROR_REASON_RESOURCE_EXHAUSTED

    def __init__(
        self, message: str, *, resource: str, retry_seconds: float = 1.0, **metadata: object
    ) -> None:
        super().__init__(message, resource=resource, **metadata)
        self.retry_seconds = retry_seconds

    @property
    def passes(self) -> bool:
        """Whether it helps to wait and try the same again."""
        return self.metadata["resource"] in _PASSING


class Unauthenticated(MaskmeshError):
    """The gateway asks for a key, and the call has none that it knows."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = error_reason_pb2.ERROR_REASON_UNAUTHENTICATED


class Unavailable(MaskmeshError):
    """A service is starting, draining or out of reach."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = error_reason_pb2.ERROR_REASON_UNAVAILABLE


class InternalError(MaskmeshError):
    """A fault of the server; its log has the text under ``error_id``."""


def all_errors(root: type[MaskmeshError] = MaskmeshError) -> list[type[MaskmeshError]]:
    """The whole tree, parents before children."""
    return [root] + [leaf for child in root.__subclasses__() for leaf in all_errors(child)]


@functools.cache
def _by_reason() -> dict[str, type[MaskmeshError]]:
    classes = {c.reason: c for c in all_errors() if "reason" in vars(c) and c is not MaskmeshError}
    classes[InternalError.reason] = InternalError
    return {
        error_reason_pb2.ErrorReason.Name(reason).removeprefix(_PREFIX): c for reason, c in classes.items()
    }


def to_status(error: MaskmeshError) -> status_pb2.Status:
    """The status that carries an error over the wire."""
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
    """The error that a server raised, or ``error`` itself where it is not one of ours.

    A connection that fails on its own becomes :class:`Unavailable`, and so does a call that the server broke
    off because it was stopped; deadlines keep gRPC's own exception.
    """
    try:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]
    except ValueError:  # details that contradict the status: not written by maskmesh
        return error
    if status is None:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return Unavailable(f"service out of reach: {error.details()}")
        if error.code() is grpc.StatusCode.CANCELLED:
            return Unavailable("the service stopped in the middle of the call")
        return error
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in status.details:
        detail.Unpack(info) if detail.Is(info.DESCRIPTOR) else detail.Unpack(retry)
    if info.domain != DOMAIN or info.reason not in _by_reason():
        return error
    rebuilt = _rebuilt(_by_reason()[info.reason], status.message, info.metadata)
    if isinstance(rebuilt, ResourceExhausted):
        rebuilt.retry_seconds = retry.retry_delay.ToNanoseconds() / 1e9
    return rebuilt


def from_reason(reason: int, message: str, metadata: Mapping[str, str]) -> MaskmeshError:
    """The error that a message of a stream tells of."""
    known = {number: name for name, number in error_reason_pb2.ErrorReason.items()}
    name = known.get(reason, "").removeprefix(_PREFIX)
    return _rebuilt(_by_reason().get(name, InternalError), message, metadata)


def _rebuilt(kind: type[MaskmeshError], message: str, metadata: Mapping[str, str]) -> MaskmeshError:
    rebuilt = kind.__new__(kind)
    MaskmeshError.__init__(rebuilt, message, **dict(metadata))
    if isinstance(rebuilt, ResourceExhausted):
        rebuilt.retry_seconds = 1.0
    return rebuilt


@contextlib.contextmanager
def translate_rpc_errors() -> Iterator[None]:
    """Raise the errors of a server as the classes that it raised."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error) from error
