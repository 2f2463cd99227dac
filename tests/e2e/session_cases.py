"""Invalid calls of sessions."""

from collections.abc import Callable, Sequence
from typing import Any

from maskmesh import (
    Conflict,
    InvalidImage,
    InvalidPrompt,
    InvalidRequest,
    InvalidVideo,
    NothingPrompted,
    ObjectNotFound,
    PromptNotFound,
    SessionBusy,
    SessionNotFound,
)
from tests.e2e.bad_inputs import (
    BAD_IMAGES,
    BAD_OPTIONS,
    BAD_PROMPTS,
    BAD_SESSION_PROMPTS,
    HEIGHT,
    PLAYLIST,
    WIDTH,
    encoded,
    plain,
    sound,
    video,
)
from tests.e2e.error_case import Case
from tests.e2e.wrong_calls import (
    FINISH,
    GOOD,
    LONG_KEY,
    V1,
    Call,
    Context,
    add_prompt,
    append,
    appended_alone,
    chunk,
    image,
    keyed_twice,
    live,
    propagate,
    resumed,
    twice,
    unary,
)


def _appended_images(*frames: V1.AppendFramesRequest) -> Call:
    """AppendImages with the images of messages."""

    def call(context: Context) -> Any:
        config = V1.AppendFramesConfig(session_id=context.session_id)
        request = V1.AppendImagesRequest(config=config, images=[frame.frame for frame in frames])
        return context.stub.AppendImages(request)

    return call


def _sessions() -> list[Case]:
    """Calls of every method with unknown, deleted and expired sessions."""
    calls: dict[str, Callable[[str], Call]] = {
        "GetSession": lambda s: lambda c: c.stub.GetSession(V1.GetSessionRequest(session_id=getattr(c, s))),
        "AppendFrames": lambda s: append(GOOD, FINISH, to=s),
        "AppendImages": lambda s: (
            lambda c: c.stub.AppendImages(
                V1.AppendImagesRequest(
                    config=V1.AppendFramesConfig(session_id=getattr(c, s)), images=[GOOD.frame]
                )
            )
        ),
        "SendStream": lambda s: (
            lambda c: c.stub.SendStream(
                V1.SendStreamRequest(
                    session_id=getattr(c, s), messages=[V1.SegmentStreamRequest(finish=V1.StreamFinish())]
                )
            )
        ),
        "AddPrompt": lambda s: lambda c: add_prompt(session_id=getattr(c, s))(c),
        "ClearPrompts": lambda s: (
            lambda c: c.stub.ClearPrompts(V1.ClearPromptsRequest(session_id=getattr(c, s), obj_id=1))
        ),
        "PropagateVideo": lambda s: lambda c: propagate(session_id=getattr(c, s))(c),
        "SegmentStream": lambda s: live(resume_token="{context." + s + "}.0.0.1"),
        "RemoveObject": lambda s: (
            lambda c: c.stub.RemoveObject(V1.RemoveObjectRequest(session_id=getattr(c, s), obj_id=1))
        ),
        "ResetSession": lambda s: (
            lambda c: c.stub.ResetSession(V1.ResetSessionRequest(session_id=getattr(c, s)))
        ),
        "AddConcept": lambda s: (
            lambda c: c.stub.AddConcept(
                V1.AddConceptRequest(session_id=getattr(c, s), concept={"phrase": "bus"})
            )
        ),
        "RemoveConcept": lambda s: (
            lambda c: c.stub.RemoveConcept(V1.RemoveConceptRequest(session_id=getattr(c, s)))
        ),
        "DeleteSession": lambda s: (
            lambda c: c.stub.DeleteSession(V1.DeleteSessionRequest(session_id=getattr(c, s)))
        ),
    }
    return [
        Case(rpc, what, make(attribute), SessionNotFound)
        for rpc, make in calls.items()
        for what, attribute in (
            ("an unknown session", "unknown_id"),
            ("a deleted session", "gone_id"),
            ("an expired session", "expired_id"),
        )
    ]


SESSION_CASES: Sequence[Case] = (
    *_sessions(),
    Case(
        "CreateSession",
        "a negative ttl",
        lambda c: c.stub.CreateSession(V1.CreateSessionRequest(ttl={"seconds": -1})),
        InvalidRequest,
        "ttl",
    ),
    Case(
        "CreateSession",
        "a key that is too long",
        lambda c: c.stub.CreateSession(V1.CreateSessionRequest(idempotency_key=LONG_KEY)),
        InvalidRequest,
        "idempotency_key",
    ),
    Case(
        "CreateSession",
        "the key of another request",
        keyed_twice(
            lambda c: c.stub.CreateSession(V1.CreateSessionRequest(idempotency_key=c.session_id)),
            lambda c: c.stub.CreateSession(
                V1.CreateSessionRequest(idempotency_key=c.session_id, ttl={"seconds": 9})
            ),
        ),
        Conflict,
        "idempotency_key",
    ),
    *(
        Case("AppendFrames", what, append(image(bad), FINISH), error, f"frame{where}")
        for what, bad, error, where in BAD_IMAGES
    ),
    *(
        Case("AppendImages", what, _appended_images(GOOD, image(bad)), error, f"images[1]{where}")
        for what, bad, error, where in BAD_IMAGES
    ),
    Case("AppendFrames", "no configuration", appended_alone(GOOD, FINISH), InvalidRequest, "config"),
    Case(
        "AppendFrames",
        "a second configuration",
        append(V1.AppendFramesRequest(config=V1.AppendFramesConfig()), FINISH),
        InvalidRequest,
        "content",
    ),
    Case("AppendFrames", "an empty message", append(V1.AppendFramesRequest()), InvalidRequest, "content"),
    Case("AppendFrames", "no frames", append(FINISH), InvalidRequest, "content"),
    Case("AppendFrames", "no last message", append(GOOD), InvalidRequest, "content"),
    Case(
        "AppendFrames",
        "a frame of another size",
        append(GOOD, image(encoded(plain(HEIGHT, WIDTH))), FINISH),
        InvalidRequest,
        "frame",
    ),
    Case("AppendFrames", "a video to images", append(chunk(video()), FINISH), InvalidRequest, "video_chunk"),
    Case("AppendFrames", "an image to a video", append(GOOD, FINISH, to="video_id"), InvalidRequest, "frame"),
    Case(
        "AppendFrames",
        "a second video",
        append(chunk(video()), FINISH, to="video_id"),
        InvalidRequest,
        "video_chunk",
    ),
    *(
        Case("AppendFrames", what, append(chunk(bad), FINISH, to="empty_id"), InvalidVideo, "video_chunk")
        for what, bad in (
            ("an empty video", b""),
            ("not a video", b"nothing of that kind" * 100),
            ("a video truncated before its index", video()[:-400]),
            ("audio only", sound()),
            ("a video without frames", video(0, form="avi", codec="mpeg4")),
            ("a playlist", PLAYLIST),
        )
    ),
    Case(
        "AppendFrames",
        "frames to a live session",
        append(GOOD, FINISH, to="live_id"),
        InvalidRequest,
        "config.session_id",
    ),
    Case(
        "AppendFrames",
        "a first index that is not the next",
        append(GOOD, FINISH, first_frame_index=3),
        Conflict,
        "config.first_frame_index",
    ),
    Case(
        "AppendFrames",
        "a key that is too long",
        append(GOOD, FINISH, idempotency_key=LONG_KEY),
        InvalidRequest,
        "config.idempotency_key",
    ),
    *(
        Case("AddPrompt", what, add_prompt(prompt=bad), InvalidPrompt, f"prompt{where}")
        for what, bad, where in (*BAD_PROMPTS, *BAD_SESSION_PROMPTS)
    ),
    *(
        Case("AddPrompt", what, add_prompt(mask_options=bad), InvalidRequest, f"mask_options{where}")
        for what, bad, where in BAD_OPTIONS
    ),
    Case(
        "AddPrompt",
        "a truncated frame",
        lambda c: add_prompt(session_id=c.broken_id)(c),
        InvalidImage,
        "frame_index",
    ),
    Case(
        "AddPrompt",
        "the key of another request",
        keyed_twice(
            lambda c: add_prompt(session_id=c.spare_id, idempotency_key="k", obj_id=1)(c),
            lambda c: add_prompt(session_id=c.spare_id, idempotency_key="k", obj_id=2)(c),
        ),
        Conflict,
        "idempotency_key",
    ),
    Case("AddPrompt", "a negative frame", add_prompt(frame_index=-1), InvalidRequest, "frame_index"),
    Case("AddPrompt", "a frame beyond the last", add_prompt(frame_index=8), InvalidRequest, "frame_index"),
    Case("AddPrompt", "an old revision", add_prompt(expected_revision=0), Conflict, "expected_revision"),
    Case(
        "AddPrompt",
        "a key that is too long",
        add_prompt(idempotency_key=LONG_KEY),
        InvalidRequest,
        "idempotency_key",
    ),
    Case(
        "ClearPrompts",
        "an unknown object",
        unary("ClearPrompts", V1.ClearPromptsRequest, obj_id=7),
        ObjectNotFound,
    ),
    Case(
        "ClearPrompts",
        "a frame that is not prompted",
        unary("ClearPrompts", V1.ClearPromptsRequest, obj_id=1, frame_index=3),
        PromptNotFound,
    ),
    Case(
        "ClearPrompts",
        "a frame beyond the last",
        unary("ClearPrompts", V1.ClearPromptsRequest, obj_id=1, frame_index=8),
        InvalidRequest,
        "frame_index",
    ),
    Case(
        "ClearPrompts",
        "an old revision",
        unary("ClearPrompts", V1.ClearPromptsRequest, obj_id=1, expected_revision=0),
        Conflict,
        "expected_revision",
    ),
    Case(
        "PropagateVideo", "nothing prompted", lambda c: propagate(session_id=c.empty_id)(c), NothingPrompted
    ),
    Case(
        "PropagateVideo",
        "a truncated frame",
        lambda c: propagate(session_id=c.broken_prompted_id)(c),
        InvalidImage,
        "frame_index",
    ),
    Case("PropagateVideo", "while another propagation runs", twice(), SessionBusy),
    Case(
        "PropagateVideo",
        "a start beyond the last frame",
        propagate(start_frame_index=8),
        InvalidRequest,
        "start_frame_index",
    ),
    Case("PropagateVideo", "an unknown direction", propagate(direction=9), InvalidRequest, "direction"),
    *(
        Case("PropagateVideo", what, propagate(mask_options=bad), InvalidRequest, f"mask_options{where}")
        for what, bad, where in BAD_OPTIONS
    ),
    Case("PropagateVideo", "an invalid token", resumed("x"), InvalidRequest, "resume_token"),
    Case(
        "PropagateVideo",
        "another session's token",
        resumed("{context.other_id}.1.8.1"),
        InvalidRequest,
        "resume_token",
    ),
    Case(
        "PropagateVideo",
        "a token and a number of frames",
        resumed("{context.session_id}.1.8.1", max_frames=2),
        InvalidRequest,
        "max_frames",
    ),
    Case(
        "PropagateVideo",
        "a live session",
        lambda c: propagate(session_id=c.live_id)(c),
        InvalidRequest,
        "session_id",
    ),
    Case(
        "RemoveObject",
        "another session's object",
        unary("RemoveObject", V1.RemoveObjectRequest, obj_id=2),
        ObjectNotFound,
    ),
    Case(
        "RemoveObject",
        "an unknown object",
        unary("RemoveObject", V1.RemoveObjectRequest, obj_id=7),
        ObjectNotFound,
    ),
    Case(
        "RemoveObject",
        "an old revision",
        unary("RemoveObject", V1.RemoveObjectRequest, obj_id=1, expected_revision=0),
        Conflict,
        "expected_revision",
    ),
    Case(
        "ResetSession",
        "an old revision",
        unary("ResetSession", V1.ResetSessionRequest, expected_revision=0),
        Conflict,
        "expected_revision",
    ),
    Case(
        "ResetSession",
        "a key that is too long",
        unary("ResetSession", V1.ResetSessionRequest, idempotency_key=LONG_KEY),
        InvalidRequest,
        "idempotency_key",
    ),
    Case(
        "DeleteSession",
        "a key that is too long",
        unary("DeleteSession", V1.DeleteSessionRequest, idempotency_key=LONG_KEY),
        InvalidRequest,
        "idempotency_key",
    ),
)
