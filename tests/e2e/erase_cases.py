"""Invalid calls of EraseObjects."""

from typing import Any

from maskmesh import InvalidRequest, NothingPrompted, ObjectNotFound, SessionNotFound
from maskmesh.v1 import erase_pb2
from tests.e2e.error_case import Case
from tests.e2e.wrong_calls import Call, Context, drain

E = erase_pb2


def erase(*, to: str = "session_id", **given: Any) -> Call:
    async def call(context: Context) -> None:
        token = given.get("resume_token", "").format(context=context)
        request = E.EraseObjectsRequest(
            **{**given, "session_id": getattr(context, to), "resume_token": token}
        )
        await drain(context.stub.EraseObjects(request))

    return call


def options(name: str, value: Any) -> Case:
    call = erase(options=E.EraseOptions(**{name: value}))
    return Case("EraseObjects", f"{name} {value}", call, InvalidRequest, f"options.{name}")


ERASE_CASES = [
    options("preset", 9),
    options("fill", 9),
    options("fill", E.ERASE_FILL_MODEL),
    options("format", 9),
    options("dilation", 129),
    options("feather", 65),
    options("look_ahead", 31),
    Case(
        "EraseObjects",
        "an unknown object",
        erase(options=E.EraseOptions(obj_ids=[1, 99])),
        ObjectNotFound,
    ),
    Case(
        "EraseObjects",
        "a frame that does not exist",
        erase(start_frame_index=99),
        InvalidRequest,
        "start_frame_index",
    ),
    Case("EraseObjects", "nothing is prompted", erase(to="video_id"), NothingPrompted),
    Case("EraseObjects", "a live session", erase(to="live_id"), InvalidRequest, "session_id"),
    Case("EraseObjects", "a deleted session", erase(to="gone_id"), SessionNotFound),
    Case("EraseObjects", "an unknown session", erase(to="unknown_id"), SessionNotFound),
    Case("EraseObjects", "an invalid token", erase(resume_token="x"), InvalidRequest, "resume_token"),
    Case(
        "EraseObjects",
        "a token of a propagation in reverse",
        erase(resume_token="{context.session_id}.3.-1.-1.5.a"),
        InvalidRequest,
        "resume_token",
    ),
    Case(
        "EraseObjects",
        "a token of another session",
        erase(resume_token="{context.other_id}.1.8.1.0."),
        InvalidRequest,
        "resume_token",
    ),
    Case(
        "EraseObjects",
        "a token and frames",
        erase(resume_token="x", max_frames=3),
        InvalidRequest,
        "max_frames",
    ),
]
