"""Conversion of options and windows of motion to messages and back."""

from maskmesh.points import MotionBoundary, MotionOptions, MotionStatus, MotionWindow
from maskmesh.v1 import motion_pb2

_STATUSES: dict[int, MotionStatus] = {
    motion_pb2.MOTION_STATUS_MOVING: "moving",
    motion_pb2.MOTION_STATUS_STILL: "still",
    motion_pb2.MOTION_STATUS_UNMOVED: "unmoved",
}


def motion_options_to_proto(options: MotionOptions) -> motion_pb2.MotionOptions:
    """Convert options to a message."""
    return motion_pb2.MotionOptions(
        window_length=options.window_length,
        window_stride=options.window_stride,
        frames_per_second=options.frames_per_second,
        velocity_scale=options.velocity_scale,
        still_gate=motion_pb2.MotionThreshold(**options.still_gate._asdict()),
        motion_gate=motion_pb2.MotionThreshold(**options.motion_gate._asdict()),
        tokens=options.tokens,
        energy_threshold=options.energy_threshold,
    )


def motion_window_from_proto(message: motion_pb2.MotionWindow) -> MotionWindow:
    """Convert a message to a window."""
    return MotionWindow(
        window=message.window,
        first_frame_index=message.first_frame_index,
        last_frame_index=message.last_frame_index,
        status=_STATUSES[message.status],
        points=message.points,
        mean_velocity=message.mean_velocity,
        energy=message.energy,
        codes=tuple(message.codes),
        boundaries=tuple(_boundary(boundary) for boundary in message.boundaries),
    )


def _boundary(message: motion_pb2.MotionBoundary) -> MotionBoundary:
    return MotionBoundary(
        "start" if message.kind == motion_pb2.BOUNDARY_KIND_START else "end",
        message.frame_index,
        message.time.ToNanoseconds() / 1e9 if message.HasField("time") else None,
        message.code if message.HasField("code") else None,
    )
