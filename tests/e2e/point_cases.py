"""Invalid calls of TrackPoints."""

from typing import Any

from maskmesh import FrameOutOfMemory, InvalidRequest, ObjectNotFound, SessionNotFound
from maskmesh.v1 import motion_pb2, points_pb2
from tests.e2e.bad_inputs import HEIGHT, WIDTH
from tests.e2e.error_case import Case
from tests.e2e.wrong_calls import Call, Context, drain

P, M = points_pb2, motion_pb2

# A gate that leaves out no window.
ALL = M.MotionThreshold()


def track(*, to: str = "session_id", **given: Any) -> Call:
    async def call(context: Context) -> None:
        request = {"points": [P.PointQuery(x=1, y=1)]} | given
        await drain(
            context.stub.TrackPoints(P.TrackPointsRequest(session_id=getattr(context, to), **request))
        )

    return call


def resumed(token: str) -> Call:
    async def call(context: Context) -> None:
        await track(resume_token=token.format(context=context))(context)

    return call


POINT_CASES = [
    Case("TrackPoints", "no points", track(points=[]), InvalidRequest, "points"),
    Case(
        "TrackPoints",
        "a frame that does not exist",
        track(points=[P.PointQuery(frame_index=99)]),
        InvalidRequest,
        "points[0].frame_index",
    ),
    Case(
        "TrackPoints",
        "a point beside the frame",
        track(points=[P.PointQuery(x=1, y=1), P.PointQuery(point_id=1, x=WIDTH + 1, y=1)]),
        InvalidRequest,
        "points[1].x",
    ),
    Case(
        "TrackPoints",
        "a point that is not a number",
        track(points=[P.PointQuery(x=1, y=float("nan"))]),
        InvalidRequest,
        "points[0].y",
    ),
    Case(
        "TrackPoints",
        "two points of one number",
        track(points=[P.PointQuery(x=1, y=1), P.PointQuery(x=2, y=HEIGHT)]),
        InvalidRequest,
        "points",
    ),
    Case(
        "TrackPoints",
        "a grid without rows",
        track(grids=[P.PointGrid(columns=2)]),
        InvalidRequest,
        "grids[0].rows",
    ),
    Case(
        "TrackPoints",
        "a grid with too many columns",
        track(grids=[P.PointGrid(rows=1, columns=257)]),
        InvalidRequest,
        "grids[0].columns",
    ),
    Case(
        "TrackPoints",
        "too many points",
        track(grids=[P.PointGrid(rows=65, columns=65, first_point_id=1)]),
        InvalidRequest,
        "points",
    ),
    Case(
        "TrackPoints",
        "too many grids",
        track(grids=[P.PointGrid(rows=1, columns=1, first_point_id=n) for n in range(65)]),
        InvalidRequest,
        "grids",
    ),
    Case(
        "TrackPoints",
        "a grid of large numbers",
        track(grids=[P.PointGrid(rows=2, columns=2, first_point_id=2**63 - 1)]),
        InvalidRequest,
        "grids[0].first_point_id",
    ),
    Case(
        "TrackPoints",
        "a grid inside an unknown object",
        track(grids=[P.PointGrid(rows=2, columns=2, first_point_id=1, obj_id=99)]),
        ObjectNotFound,
    ),
    Case(
        "TrackPoints",
        "a grid inside an object that has no mask on the frame",
        track(grids=[P.PointGrid(rows=2, columns=2, first_point_id=1, obj_id=1, frame_index=5)]),
        FrameOutOfMemory,
    ),
    Case(
        "TrackPoints",
        "a window of motion of one frame",
        track(motion=M.MotionOptions(window_length=1)),
        InvalidRequest,
        "motion.window_length",
    ),
    Case(
        "TrackPoints",
        "windows of motion with gaps",
        track(motion=M.MotionOptions(window_length=4, window_stride=5)),
        InvalidRequest,
        "motion.window_stride",
    ),
    Case(
        "TrackPoints",
        "codes of motion without a tokenizer",
        track(motion=M.MotionOptions(window_length=2, tokens=True, still_gate=ALL, motion_gate=ALL)),
        InvalidRequest,
        "motion.tokens",
    ),
    Case("TrackPoints", "a live session", track(to="live_id"), InvalidRequest, "session_id"),
    Case("TrackPoints", "a deleted session", track(to="gone_id"), SessionNotFound),
    Case("TrackPoints", "an unknown session", track(to="unknown_id"), SessionNotFound),
    Case("TrackPoints", "an invalid token", resumed("x"), InvalidRequest, "resume_token"),
    Case(
        "TrackPoints",
        "a token of another session",
        resumed("{context.other_id}.1.8.1.0."),
        InvalidRequest,
        "resume_token",
    ),
    Case(
        "TrackPoints",
        "a token of other points",
        resumed("{context.session_id}.3.8.1.2."),
        InvalidRequest,
        "resume_token",
    ),
    Case(
        "TrackPoints",
        "a token and frames",
        track(resume_token="x", max_frames=3),
        InvalidRequest,
        "max_frames",
    ),
]
