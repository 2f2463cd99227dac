"""Conversion of points and their motion to messages and back."""

from collections.abc import Iterable

from maskmesh.points import (
    FramePoints,
    MotionBoundary,
    MotionOptions,
    MotionStatus,
    MotionWindow,
    PointGrid,
    PointQuery,
    TrackedPoint,
)
from maskmesh.v1 import motion_pb2, points_pb2
from maskmesh.wire.masks import stage_seconds_from_proto

_STATUSES: dict[int, MotionStatus] = {
    motion_pb2.MOTION_STATUS_MOVING: "moving",
    motion_pb2.MOTION_STATUS_STILL: "still",
    motion_pb2.MOTION_STATUS_UNMOVED: "unmoved",
    motion_pb2.MOTION_STATUS_OTHER_POINTS: "other_points",
}


def point_query_to_proto(query: PointQuery) -> points_pb2.PointQuery:
    """Convert a point where it is chosen to a message."""
    return points_pb2.PointQuery(point_id=query.point_id, frame_index=query.frame_index, x=query.x, y=query.y)


def point_queries_from_proto(messages: Iterable[points_pb2.PointQuery]) -> tuple[PointQuery, ...]:
    """Convert messages to points where they are chosen."""
    return tuple(PointQuery(p.point_id, p.frame_index, p.x, p.y) for p in messages)


def point_grid_to_proto(grid: PointGrid) -> points_pb2.PointGrid:
    """Convert a grid to a message."""
    return points_pb2.PointGrid(
        first_point_id=grid.first_point_id,
        frame_index=grid.frame_index,
        rows=grid.rows,
        columns=grid.columns,
        obj_id=grid.obj_id,
    )


def frame_points_from_proto(message: points_pb2.FramePoints) -> FramePoints:
    """Convert a message to the points on one frame."""
    return FramePoints(
        frame_index=message.frame_index,
        points={p.point_id: TrackedPoint(p.x, p.y, p.visible, p.confidence) for p in message.points},
        trace_id=message.trace_id,
        stage_seconds=stage_seconds_from_proto(message.stage_times),
        time=message.time.ToNanoseconds() / 1e9 if message.HasField("time") else None,
        repeats_previous=message.repeats_previous,
    )


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
