"""Conversion of boxes and durations to messages and back."""

from google.protobuf.duration_pb2 import Duration

from maskmesh.types import Box
from maskmesh.v1 import types_pb2


def box_to_proto(box: Box) -> types_pb2.Box:
    """Convert a box to a message."""
    return types_pb2.Box(x0=box.x0, y0=box.y0, x1=box.x1, y1=box.y1)


def box_from_proto(message: types_pb2.Box) -> Box:
    """Convert a message to a box, without checks."""
    return Box(message.x0, message.y0, message.x1, message.y1)


def duration_from_seconds(seconds: float) -> Duration:
    """Convert seconds to a message."""
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration


def seconds_from_duration(duration: Duration) -> float:
    """Convert a message to seconds."""
    return duration.ToNanoseconds() / 1e9
