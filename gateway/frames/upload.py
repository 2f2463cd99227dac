"""AppendFrames: an upload is taken in as a whole or not at all."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from gateway.frames.frame_replication import added, adding
from gateway.frames.frame_store import Addition, FrameStore
from gateway.sessions.session import GatewaySession
from maskmesh import wire
from maskmesh.errors import Conflict, InvalidRequest, SessionNotFound
from maskmesh.storage.session_store import SessionStore
from maskmesh.v1 import segmentation_pb2

Requests = AsyncIterator[segmentation_pb2.AppendFramesRequest]

# How long a caller whose upload is refused may go on sending, and pause meanwhile.
READ_OUT_SECONDS = 10.0
PAUSE_SECONDS = 0.5


async def append_frames(
    session: GatewaySession,
    config: segmentation_pb2.AppendFramesConfig,
    requests: Requests,
    shared: SessionStore | None,
    *,
    max_pixels: int,
    check_bytes: Callable[[], None],
) -> segmentation_pb2.AppendFramesResponse:
    """Take in all frames of a call, one upload after the other.  Raises what AppendFrames says.

    ``check_bytes`` raises where all that the caller adds and has is too much.

    With a store they are there, too, when this returns.
    """
    frames = session.frames
    if not isinstance(frames, FrameStore):
        raise InvalidRequest("frames of a live session come by its stream", field="config.session_id")
    async with session.appending, adding(shared, session):
        if config.HasField("first_frame_index") and config.first_frame_index != frames.num_frames:
            raise Conflict(
                f"the session has {frames.num_frames} frames by now",
                field="config.first_frame_index",
                num_frames=frames.num_frames,
            )
        first = await _add_frames(session, frames, requests, max_pixels, check_bytes)
        response = segmentation_pb2.AppendFramesResponse(
            first_frame_index=first,
            num_frames=frames.num_frames,
            width=frames.width,
            height=frames.height,
            frames_per_second=frames.frames_per_second,
        )
        await added(shared, session, first, config, response)
    await session.prepare()
    return response


async def _add_frames(
    session: GatewaySession,
    frames: FrameStore,
    requests: Requests,
    max_pixels: int,
    check_bytes: Callable[[], None],
) -> int:
    """Take in all frames of a call or none; returns the index of the first.

    The session's one thread does it step by step, so a caller who leaves interrupts no step, and what is
    dropped then is dropped after the step.
    """
    try:
        addition = await frames.on_thread(Addition, frames)
    except FileNotFoundError as error:
        raise SessionNotFound("the session has ended", session_id=session.session_id) from error
    try:
        async for request in requests:
            match request.WhichOneof("content"):
                case "frame":
                    image = wire.image_from_proto(request.frame, field="frame", max_pixels=max_pixels)
                    await frames.on_thread(addition.add_frame, image)
                case "video_chunk":
                    await frames.on_thread(addition.add_video_chunk, request.video_chunk)
                case "finish":
                    return await frames.on_thread(addition.commit)
                case _:
                    raise InvalidRequest("after the configuration come frames", field="content")
            session.adding_bytes = addition.num_bytes
            check_bytes()
        raise InvalidRequest("the call ended before its last message", field="content")
    finally:
        session.adding_bytes = 0
        await frames.on_thread(addition.close)


async def drain_requests(requests: Requests, remaining: float | None) -> None:
    """Let a caller finish what it is sending, and drop it; ``remaining`` are the seconds to its deadline.

    An answer that overtakes messages on their way is lost on gRPC's own client for asyncio: the failure
    of the write takes the place of the reason.
    """
    seconds = READ_OUT_SECONDS if remaining is None else min(READ_OUT_SECONDS, remaining / 2)
    messages = aiter(requests)
    # Nothing more may be coming, or too much: then the reason may be lost.
    with contextlib.suppress(TimeoutError, StopAsyncIteration):
        async with asyncio.timeout(seconds):
            while True:
                async with asyncio.timeout(PAUSE_SECONDS):
                    await anext(messages)
