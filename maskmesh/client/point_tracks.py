"""TrackPoints calls, which continue with another call when their connection breaks."""

import time
from collections.abc import AsyncGenerator, Sequence

from maskmesh import wire
from maskmesh.aio import RetryWindow
from maskmesh.client.connection import GatewayConnection
from maskmesh.errors import Unavailable
from maskmesh.points import FramePoints, PointGrid, PointQuery, TrackedPoint
from maskmesh.rpc.status import translate_rpc_errors
from maskmesh.v1 import points_pb2

# How long a broken call is continued, and the pause before each attempt.
RESUME_SECONDS = 60.0
RESUME_PAUSE_SECONDS = 0.2


def point_request(
    session_id: str, points: Sequence[PointQuery], grids: Sequence[PointGrid]
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
    )


async def followed_points(
    connection: GatewayConnection, request: points_pb2.TrackPointsRequest, timeout: float | None
) -> AsyncGenerator[FramePoints, None]:
    """The frames of a request in order.  Raises the errors of TrackPoints."""
    deadline = None if timeout is None else time.monotonic() + timeout
    window = RetryWindow(RESUME_SECONDS, first_pause=RESUME_PAUSE_SECONDS)
    while True:
        remaining = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        call = connection.stream_responses("TrackPoints", request, remaining)
        try:
            with translate_rpc_errors():
                async for response in call:
                    request.resume_token = response.resume_token
                    request.max_frames = 0  # the token has the end
                    yield _frame(response)
                    window.reset()
            return
        except Unavailable as error:
            if not request.resume_token:
                raise
            await window.wait(error)
        finally:
            call.cancel()


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
    )
