"""Invalid calls of SegmentStream, and invalid messages in a stream."""

from collections.abc import Sequence
from typing import Any

from google.protobuf.duration_pb2 import Duration

from maskmesh import (
    Conflict,
    InvalidImage,
    InvalidPrompt,
    InvalidRequest,
    MaskmeshError,
    ObjectNotFound,
    Unavailable,
)
from maskmesh.v1 import budget_pb2, motion_pb2, points_pb2, types_pb2
from tests.e2e.bad_inputs import (
    BAD_IMAGES,
    BAD_OPTIONS,
    BAD_PROMPTS,
    BAD_SESSION_PROMPTS,
    CLICK,
    CUT_OFF,
    encoded,
    plain,
)
from tests.e2e.error_case import Case
from tests.e2e.wrong_calls import (
    V1,
    live,
    live_frame,
    live_prompt,
    received,
    rejected,
)

_POINT = points_pb2.PointQuery(x=1, y=1)

BAD_POINTS: Sequence[tuple[str, dict[str, Any], type[MaskmeshError], str]] = (
    ("none", {}, InvalidRequest, "points"),
    ("on a frame that was not sent yet", {"points": [_POINT], "sequence": 3}, InvalidRequest, "sequence"),
    ("a frame", {"points": [points_pb2.PointQuery(frame_index=1)]}, InvalidRequest, "points[0].frame_index"),
    ("outside", {"points": [points_pb2.PointQuery(x=-1)]}, InvalidRequest, "points[0].x"),
    ("a number twice", {"points": [_POINT, _POINT]}, InvalidRequest, "points"),
    ("no columns", {"grids": [points_pb2.PointGrid(rows=2)]}, InvalidRequest, "grids[0].columns"),
    (
        "inside an unknown object",
        {"grids": [points_pb2.PointGrid(rows=2, columns=2, obj_id=9)]},
        ObjectNotFound,
        "",
    ),
)

LIVE_CASES: Sequence[Case] = (
    Case("SegmentStream", "no configuration", live(V1.SegmentStreamRequest()), InvalidRequest, "config"),
    Case("SegmentStream", "an unknown policy", live(overload=9), InvalidRequest, "config.overload"),
    *(
        Case(
            "SegmentStream",
            f"a budget: {name} out of range",
            live(budget=budget_pb2.Budget(**{name: value})),  # type: ignore[arg-type]
            InvalidRequest,
            f"config.budget.{name}",
        )
        for name, value in (
            ("frames_per_second", -1.0),
            ("per_window", Duration(seconds=-1)),
            ("window_length", 5000),
            ("window_stride", 5000),
        )
    ),
    Case(
        "SegmentStream",
        "a threshold of the motion gate out of range",
        live(motion_gate=budget_pb2.MotionGate(threshold=300)),
        InvalidRequest,
        "config.motion_gate.threshold",
    ),
    Case("SegmentStream", "a negative ttl", live(ttl={"seconds": -1}), InvalidRequest, "config.ttl"),
    *(
        Case("SegmentStream", what, live(mask_options=bad), InvalidRequest, f"config.mask_options{where}")
        for what, bad, where in BAD_OPTIONS
    ),
    Case("SegmentStream", "an invalid token", live(resume_token="x"), InvalidRequest, "config.resume_token"),
    Case(
        "SegmentStream",
        "a session that is not live",
        live(resume_token="{context.session_id}.0.0.1"),
        InvalidRequest,
        "config.resume_token",
    ),
    Case(
        "SegmentStream",
        "a second configuration",
        live(V1.SegmentStreamRequest(config=V1.StreamConfig()), overload="OVERLOAD_POLICY_WAIT"),
        InvalidRequest,
        "content",
    ),
    Case(
        "SegmentStream",
        "no last message",
        live(overload="OVERLOAD_POLICY_WAIT"),
        InvalidRequest,
        "content",
    ),
    *(
        Case(
            "SegmentStream",
            f"a frame: {what}",
            rejected(live_frame(1, bad), next_sequence=2),
            error,
            f"frame.image{where}",
        )
        for what, bad, error, where in BAD_IMAGES
    ),
    Case(
        "SegmentStream",
        "a frame: truncated",
        rejected(live_frame(1, types_pb2.Image(encoded=CUT_OFF)), next_sequence=2),
        InvalidImage,
        "frame.image",
    ),
    Case(
        "SegmentStream",
        "a frame: of another size",
        rejected(live_frame(1, types_pb2.Image(encoded=encoded(plain(20, 20)))), next_sequence=2),
        InvalidRequest,
        "frame.image",
    ),
    Case(
        "SegmentStream",
        "a frame: a gap in the sequence",
        rejected(live_frame(7)),
        InvalidRequest,
        "frame.sequence",
    ),
    *(
        Case(
            "SegmentStream",
            f"a prompt: {what}",
            rejected(live_prompt(bad)),
            InvalidPrompt,
            f"prompt.prompt{where}",
        )
        for what, bad, where in (*BAD_PROMPTS, *BAD_SESSION_PROMPTS)
    ),
    Case(
        "SegmentStream",
        "a prompt: on a frame that was not sent yet",
        rejected(live_prompt(CLICK, sequence=3)),
        InvalidRequest,
        "prompt.sequence",
    ),
    Case(
        "SegmentStream",
        "a prompt: the request id of another prompt",
        rejected(live_prompt(CLICK, request_id="first", obj_id=2)),
        Conflict,
        "prompt.request_id",
    ),
    Case(
        "SegmentStream",
        "a removal: an unknown object",
        rejected(V1.SegmentStreamRequest(removal=V1.StreamRemoval(request_id="gone", obj_id=7))),
        ObjectNotFound,
    ),
    *(
        Case(
            "SegmentStream",
            f"points: {what}",
            rejected(V1.SegmentStreamRequest(points=V1.StreamPoints(request_id="wrong", **given))),
            error,
            f"points.{field}" if field else "",
        )
        for what, given, error, field in BAD_POINTS
    ),
    Case(
        "SegmentStream",
        "a removal of points: an unknown point",
        rejected(
            V1.SegmentStreamRequest(points_removal=V1.StreamPointsRemoval(request_id="gone", point_ids=[7]))
        ),
        InvalidRequest,
        "points_removal.point_ids",
    ),
    *(
        Case(
            "SegmentStream",
            f"motion: {name} out of range",
            live(motion=motion_pb2.MotionOptions(**{name: value})),  # type: ignore[arg-type]
            InvalidRequest,
            f"config.motion.{name}",
        )
        for name, value in (
            ("window_length", 257),
            ("window_stride", 17),
            ("frames_per_second", -1.0),
            ("velocity_scale", 1e-9),
            ("energy_threshold", float("nan")),
            ("tokens", True),
        )
    ),
    Case(
        "ReceiveStream",
        "an unknown policy",
        received(overload=9),
        InvalidRequest,
        "config.overload",
    ),
    Case(
        "ReceiveStream",
        "a session that is not live",
        received(resume_token="{context.session_id}.0.0.1"),
        InvalidRequest,
        "config.resume_token",
    ),
    Case(
        "SendStream",
        "no message",
        lambda c: c.stub.SendStream(V1.SendStreamRequest(session_id=c.live_id)),
        InvalidRequest,
        "messages",
    ),
    Case(
        "SendStream",
        "a stream that SegmentStream has opened",
        lambda c: c.stub.SendStream(
            V1.SendStreamRequest(
                session_id=c.live_id, messages=[V1.SegmentStreamRequest(finish=V1.StreamFinish())]
            )
        ),
        Unavailable,
    ),
)
