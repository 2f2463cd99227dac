"""TrackPoints calls."""

import dataclasses
from collections.abc import AsyncGenerator, Sequence

from maskmesh import wire
from maskmesh.client.connection import GatewayConnection
from maskmesh.client.resumed_call import resumed_responses
from maskmesh.points import FramePoints, MotionOptions, PointGrid, PointQuery
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
        points=[wire.point_query_to_proto(point) for point in points],
        grids=[wire.point_grid_to_proto(grid) for grid in grids],
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
    return dataclasses.replace(
        wire.frame_points_from_proto(response.frame),
        model=wire.model_info_from_proto(response.model) if response.HasField("model") else None,
        resume_token=response.resume_token,
        placed=wire.point_queries_from_proto(response.points),
        motion_windows=tuple(wire.motion_window_from_proto(w) for w in response.motion_windows),
    )
