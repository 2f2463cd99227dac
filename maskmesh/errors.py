"""Every error that maskmesh raises, in servers and in clients.

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
    +-- SessionLost                 carries the index of the last frame
    +-- Conflict                    a concurrent change, or a reused idempotency key
    +-- ResourceExhausted           carries a retry hint
    +-- Unauthenticated
    +-- Unavailable
    +-- InternalError               the server logs the text and does not send it

Servers raise these, and clients raise the same class again: :mod:`maskmesh.rpc.status` converts them to gRPC
statuses and back.
"""

from typing import ClassVar

import grpc

from maskmesh.v1 import error_reason_pb2

# Metadata key of an error: the address of the service that its sender cannot reach.
UNREACHABLE = "unreachable"


class MaskmeshError(Exception):
    """Base class of all errors.  ``metadata`` has the keys that ErrorReason documents, all strings."""

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
    """An image has more pixels or bytes than the server accepts."""

    reason = error_reason_pb2.ERROR_REASON_IMAGE_TOO_LARGE


class InvalidVideo(InvalidRequest):
    """A video is empty or cannot be read."""

    reason = error_reason_pb2.ERROR_REASON_INVALID_VIDEO


class InvalidPrompt(InvalidRequest):
    """A prompt is empty, malformed, outside the frame or in conflict with earlier ones."""

    reason = error_reason_pb2.ERROR_REASON_INVALID_PROMPT


class NotFound(MaskmeshError):
    """A resource that a request names does not exist."""

    code = grpc.StatusCode.NOT_FOUND


class SessionNotFound(NotFound):
    """The session is unknown, deleted or expired."""

    reason = error_reason_pb2.ERROR_REASON_SESSION_NOT_FOUND


class ObjectNotFound(NotFound):
    """The session has no such object."""

    reason = error_reason_pb2.ERROR_REASON_OBJECT_NOT_FOUND


class ConceptNotFound(NotFound):
    """The session has no such concept."""

    reason = error_reason_pb2.ERROR_REASON_CONCEPT_NOT_FOUND


class PromptNotFound(NotFound):
    """The object is not prompted on that frame."""

    reason = error_reason_pb2.ERROR_REASON_PROMPT_NOT_FOUND


class EmbeddingNotFound(NotFound):
    """A service does not hold, or no longer holds, an embedding; the gateway encodes the image again."""

    reason = error_reason_pb2.ERROR_REASON_EMBEDDING_NOT_FOUND


class FailedPrecondition(MaskmeshError):
    """The request is well formed, but not possible in the current state."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class NothingPrompted(FailedPrecondition):
    """The session cannot propagate before an object is prompted."""

    reason = error_reason_pb2.ERROR_REASON_NOTHING_PROMPTED


class ModelMismatch(FailedPrecondition):
    """An embedding was computed by a model other than the one that is to use it."""

    reason = error_reason_pb2.ERROR_REASON_MODEL_MISMATCH


class SessionBusy(FailedPrecondition):
    """The session is already propagating."""

    reason = error_reason_pb2.ERROR_REASON_SESSION_BUSY


class FrameOutOfMemory(FailedPrecondition):
    """The frame is so old that its image or its tracking state is no longer held."""

    reason = error_reason_pb2.ERROR_REASON_FRAME_OUT_OF_MEMORY


class StaleEpoch(FailedPrecondition):
    """The ownership epoch of the caller or the tracker is out of date; the gateway looks up the owner."""

    reason = error_reason_pb2.ERROR_REASON_STALE_EPOCH


class SessionLost(MaskmeshError):
    """The tracker of a session ended, and the state of its objects was not replicated.

    The session and its frames still exist, so prompts can be repeated, as ``VideoSession.recover`` does.
    """

    code = grpc.StatusCode.DATA_LOSS
    reason = error_reason_pb2.ERROR_REASON_SESSION_LOST

    @property
    def last_frame_index(self) -> int | None:
        """Index of the last frame that was tracked and delivered, None if there was none."""
        text = self.metadata.get("last_frame_index", "")
        return int(text) if text else None


class Conflict(MaskmeshError):
    """Another request changed the session meanwhile, or an idempotency key belongs to another request."""

    code = grpc.StatusCode.ABORTED
    reason = error_reason_pb2.ERROR_REASON_CONFLICT


# Resources that soon have capacity again, unlike the limits of a session or an API key.
_PASSING = ("queue", "calls", "cache", "frames_per_second")


class ResourceExhausted(MaskmeshError):
    """A limit is reached; ``retry_seconds`` is the retry hint."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = error_reason_pb2.ERROR_REASON_RESOURCE_EXHAUSTED

    def __init__(
        self, message: str, *, resource: str, retry_seconds: float = 1.0, **metadata: object
    ) -> None:
        super().__init__(message, resource=resource, **metadata)
        self.retry_seconds = retry_seconds

    @property
    def passes(self) -> bool:
        """Whether the same request can succeed after a wait."""
        return self.metadata["resource"] in _PASSING


class Unauthenticated(MaskmeshError):
    """The gateway requires an API key, and the call has none or an unknown one."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = error_reason_pb2.ERROR_REASON_UNAUTHENTICATED


class Unavailable(MaskmeshError):
    """A service is starting, draining or unreachable."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = error_reason_pb2.ERROR_REASON_UNAVAILABLE


class InternalError(MaskmeshError):
    """A fault of the server, which logs the text under ``error_id``."""


def all_errors(root: type[MaskmeshError] = MaskmeshError) -> list[type[MaskmeshError]]:
    """``root`` and all its subclasses, parents before children."""
    return [root] + [leaf for child in root.__subclasses__() for leaf in all_errors(child)]
