"""Conversion of seconds to messages and back."""

from google.protobuf.duration_pb2 import Duration


def duration_from_seconds(seconds: float) -> Duration:
    """Convert seconds to a message."""
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration


def seconds_from_duration(duration: Duration) -> float:
    """Convert a message to seconds."""
    return duration.ToNanoseconds() / 1e9
