"""Every way to call wrongly, and what comes of it: the cases of a test, and the table in the docs.

python -m tests.e2e.error_matrix docs/errors.md
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from maskmesh import (
    Conflict,
    InvalidImage,
    InvalidPrompt,
    InvalidRequest,
    InvalidVideo,
    MaskmeshError,
    NothingPrompted,
    ObjectNotFound,
    PromptNotFound,
    SessionBusy,
    SessionNotFound,
)
from maskmesh.v1 import error_reason_pb2, types_pb2
from tests.e2e.bad_inputs import (
    BAD_IMAGES,
    BAD_OPTIONS,
    BAD_PROMPTS,
    BAD_SESSION_PROMPTS,
    CLICK,
    CUT_OFF,
    HEIGHT,
    NAN,
    PLAYLIST,
    WIDTH,
    encoded,
    logits,
    plain,
    rle,
    sound,
    video,
)
from tests.e2e.limits import LIMITS
from tests.e2e.wrong_calls import (
    FINISH,
    GOOD,
    LONG_KEY,
    V1,
    Call,
    add_prompt,
    append,
    appended_alone,
    chunk,
    image,
    keyed_twice,
    live,
    live_frame,
    live_prompt,
    on_image,
    propagate,
    rejected,
    resumed,
    segment_image,
    twice,
    unary,
)


@dataclass(frozen=True, slots=True)
class Case:
    """One wrong call."""

    rpc: str
    what: str
    call: Call = field(repr=False)
    error: type[MaskmeshError]
    field: str = ""

    @property
    def name(self) -> str:
        return f"{self.rpc}: {self.what}"


def _sessions() -> list[Case]:
    """Sessions that are not there, in every call."""
    calls: dict[str, Callable[[str], Call]] = {
        "GetSession": lambda s: lambda c: c.stub.GetSession(V1.GetSessionRequest(session_id=getattr(c, s))),
        "AppendFrames": lambda s: append(GOOD, FINISH, to=s),
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
        "DeleteSession": lambda s: (
            lambda c: c.stub.DeleteSession(V1.DeleteSessionRequest(session_id=getattr(c, s)))
        ),
    }
    return [
        Case(rpc, what, make(attribute), SessionNotFound)
        for rpc, make in calls.items()
        for what, attribute in (
            ("a session that never was", "unknown_id"),
            ("a session that was deleted", "gone_id"),
            ("an expired session", "expired_id"),
        )
    ]


CASES: Sequence[Case] = (
    *_sessions(),
    *(
        Case("SegmentImage", what, segment_image(image=bad, prompts=on_image(CLICK)), error, f"image{where}")
        for what, bad, error, where in BAD_IMAGES
    ),
    Case(
        "SegmentImage",
        "a picture cut off in its middle",
        segment_image(image=types_pb2.Image(encoded=CUT_OFF), prompts=on_image(CLICK)),
        InvalidImage,
        "image",
    ),
    *(
        Case(
            "SegmentImage",
            what,
            segment_image(prompts=on_image(bad)),
            InvalidPrompt,
            f"prompts[0].prompt{where}",
        )
        for what, bad, where in BAD_PROMPTS
    ),
    Case("SegmentImage", "no prompts", segment_image(), InvalidPrompt, "prompts"),
    Case(
        "SegmentImage", "65 prompts", segment_image(prompts=on_image(*[CLICK] * 65)), InvalidPrompt, "prompts"
    ),
    Case(
        "SegmentImage",
        "one object twice",
        segment_image(prompts=[V1.ObjectPrompt(obj_id=3, prompt=CLICK)] * 2),
        InvalidPrompt,
        "prompts[1].obj_id",
    ),
    Case(
        "SegmentImage",
        "a binary mask",
        segment_image(prompts=on_image(rle(HEIGHT, WIDTH))),
        InvalidPrompt,
        "prompts[0].prompt.mask",
    ),
    Case(
        "SegmentImage",
        "logits of another size",
        segment_image(prompts=on_image(logits(8))),
        InvalidPrompt,
        "prompts[0].prompt.mask.low_res_logits",
    ),
    Case(
        "SegmentImage",
        "logits that are not numbers",
        segment_image(prompts=on_image(logits(64, NAN))),
        InvalidPrompt,
        "prompts[0].prompt.mask.low_res_logits.values",
    ),
    Case(
        "SegmentImage",
        "logits with bytes missing",
        segment_image(prompts=on_image(logits(64, 1.0, 100))),
        InvalidPrompt,
        "prompts[0].prompt.mask.low_res_logits.values",
    ),
    *(
        Case(
            "SegmentImage",
            what,
            segment_image(prompts=on_image(CLICK), mask_options=bad),
            InvalidRequest,
            f"mask_options{where}",
        )
        for what, bad, where in BAD_OPTIONS
    ),
    Case(
        "SegmentImage",
        "alternatives that must not overlap",
        segment_image(
            prompts=on_image(CLICK),
            multimask_output=True,
            mask_options=types_pb2.MaskOptions(non_overlapping=True),
        ),
        InvalidRequest,
        "mask_options.non_overlapping",
    ),
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
            ("no video", b"nothing of that kind" * 100),
            ("a video cut off before its index", video()[:-400]),
            ("sound alone", sound()),
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
        "another first index than the next",
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
        "a frame cut off in its middle",
        lambda c: add_prompt(session_id=c.broken_id)(c),
        InvalidImage,
        "frame_index",
    ),
    Case(
        "AddPrompt",
        "a frame of a video that cannot be decoded",
        lambda c: add_prompt(session_id=c.broken_video_id, frame_index=7)(c),
        InvalidVideo,
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
        "an object that is not there",
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
        "a frame cut off in its middle",
        lambda c: propagate(session_id=c.broken_prompted_id)(c),
        InvalidImage,
        "frame_index",
    ),
    Case("PropagateVideo", "while another one runs", twice(), SessionBusy),
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
    Case("PropagateVideo", "a token that is none", resumed("x"), InvalidRequest, "resume_token"),
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
    Case("SegmentStream", "no configuration", live(V1.SegmentStreamRequest()), InvalidRequest, "config"),
    Case("SegmentStream", "an unknown policy", live(overload=9), InvalidRequest, "config.overload"),
    Case("SegmentStream", "a negative ttl", live(ttl={"seconds": -1}), InvalidRequest, "config.ttl"),
    *(
        Case("SegmentStream", what, live(mask_options=bad), InvalidRequest, f"config.mask_options{where}")
        for what, bad, where in BAD_OPTIONS
    ),
    Case(
        "SegmentStream", "a token that is none", live(resume_token="x"), InvalidRequest, "config.resume_token"
    ),
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
        "a frame: cut off in its middle",
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
    Case("SegmentStream", "a frame: too early", rejected(live_frame(7)), InvalidRequest, "frame.sequence"),
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
        "a prompt: the request id of another one",
        rejected(live_prompt(CLICK, request_id="first", obj_id=2)),
        Conflict,
        "prompt.request_id",
    ),
    Case(
        "SegmentStream",
        "a removal: an object that is not there",
        rejected(V1.SegmentStreamRequest(removal=V1.StreamRemoval(request_id="gone", obj_id=7))),
        ObjectNotFound,
    ),
    Case(
        "RemoveObject",
        "another session's object",
        unary("RemoveObject", V1.RemoveObjectRequest, obj_id=2),
        ObjectNotFound,
    ),
    Case(
        "RemoveObject",
        "an object that is not there",
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


def reason(error: type[MaskmeshError]) -> str:
    """Its name in ErrorInfo."""
    return error_reason_pb2.ErrorReason.Name(error.reason).removeprefix("ERROR_REASON_")


HEADER = """# What goes wrong, and what comes of it

Written by `python -m tests.e2e.error_matrix docs/errors.md` from the cases that the tests run through a real
mesh. Every error carries its reason in a `google.rpc.ErrorInfo` of the domain `maskmesh`; INVALID_ARGUMENT
names the field in a `google.rpc.BadRequest` besides. After each of these calls the session is as it was.

Deadlines and cancellations have gRPC's own codes, DEADLINE_EXCEEDED and CANCELLED; the call may have been
carried out all the same, and a repetition with its idempotency key says so. A message over the limit
(64 MiB) is refused by gRPC itself with RESOURCE_EXHAUSTED and no reason. Limits of the server (sessions,
objects, frames, bytes of an upload, work that waits) give RESOURCE_EXHAUSTED with a `google.rpc.RetryInfo`.

In a `SegmentStream`, what is wrong with one frame, prompt or removal comes back as a `StreamRejected`, and
the stream goes on; the rows that begin with these words are such.
"""

LIMITS_HEADER = """## Limits

What each service takes is a setting of it. A call beyond it does nothing, and the session goes on as it was.
Disk is another matter: beyond its budget the oldest states go, tracking goes on, and what would need them is
refused.

| setting | call | code | reason | `resource` |
|---|---|---|---|---|"""


def table() -> str:
    """The docs page."""
    lines = [HEADER]
    for rpc in dict.fromkeys(case.rpc for case in CASES):
        lines += [f"## {rpc}", "", "| call with | code | reason | field |", "|---|---|---|---|"]
        lines += [
            f"| {c.what} | {c.error.code.name} | {reason(c.error)} | {f'`{c.field}`' if c.field else ''} |"
            for c in CASES
            if c.rpc == rpc
        ]
        lines.append("")
    lines.append(LIMITS_HEADER)
    lines += [
        f"| `{limit.setting}` | {limit.rpc} | {limit.error.code.name} | {reason(limit.error)} "
        f"| {limit.resource} |"
        for limit in LIMITS
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(table())
