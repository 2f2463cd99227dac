"""TrackPoints calls."""

from collections.abc import AsyncGenerator, Sequence

from maskmesh import wire
from maskmesh.client.connection import GatewayConnection
from maskmesh.client.resumed_call import resumed_responses
from maskmesh.points import FramePoints, MotionOptions, PointGrid, PointQuery, TrackedPoint
from maskmesh.v1 import points_pb2


def point_request(
    session_id: str,
    points: Sequence[PointQuery],
    grids: Sequence[PointGrid],
    motion: MotionOptions | None,
) -> points_pb2.TrackPointsRequest:
    """The request for points of a session."""
    return points_pb2.TrackPointsRequest(
        session_id=session_id,
        points=[
            points_pb2.PointQuery(point_id=p.point_id, frame_index=p.frame_index, x=p.x, y=p.y)
            for p in points
        ],
        grids=[
            points_pb2.PointGrid(
                first_point_id=g.first_point_id,
                frame_index=g.frame_index,
                rows=g.rows,
                columns=g.columns,
                obj_id=g.obj_id,
            )
            for g in grids
        ],
        motion=None if motion is None else wire.motion_options_to_proto(motion),
    )


async def followed_points(
    connection: GatewayConnection, request: points_pb2.TrackPointsRequest, timeout: float | None
) -> AsyncGenerator[FramePoints, None]:
    """The frames of a request in order.  Raises the errors of TrackPoints."""
    async for response in resumed_responses(connection, "TrackPoints", request, timeout):
        if response.points:  # the object's mask may change until the call is continued
            del request.points[:], request.grids[:]
            request.points.extend(response.points)
        yield _frame(response)


def _frame(response: points_pb2.TrackPointsResponse) -> FramePoints:
    frame = response.frame
    return FramePoints(
        frame_index=frame.frame_index,
        points={p.point_id: TrackedPoint(p.x, p.y, p.visible, p.confidence) for p in frame.points},
        trace_id=frame.trace_id,
        stage_seconds=wire.stage_seconds_from_proto(frame.stage_times),
        time=frame.time.ToNanoseconds() / 1e9 if frame.HasField("time") else None,
        repeats_previous=frame.repeats_previous,
        model=wire.model_info_from_proto(response.model) if response.HasField("model") else None,
        resume_token=response.resume_token,
        placed=tuple(PointQuery(p.point_id, p.frame_index, p.x, p.y) for p in response.points),
        motion_windows=tuple(wire.motion_window_from_proto(w) for w in response.motion_windows),
    )
