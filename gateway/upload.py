"""AppendFrames: an upload is added completely or not at all."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from gateway.frames.frame_store import Addition, FrameStore
from gateway.sessions.session import GatewaySession
from maskmesh import wire
from maskmesh.errors import Conflict, InvalidRequest, SessionNotFound
from maskmesh.media.pictures import PixelLimit
from maskmesh.v1 import segmentation_pb2

Requests = AsyncIterator[segmentation_pb2.AppendFramesRequest]

# How long a client whose upload is refused may continue to send, and how long it may pause meanwhile.
DRAIN_SECONDS = 10.0
PAUSE_SECONDS = 0.5


async def append_frames(
    session: GatewaySession,
    config: segmentation_pb2.AppendFramesConfig,
    requests: Requests,
    *,
    limit: PixelLimit,
    check_bytes: Callable[[], None],
) -> segmentation_pb2.AppendFramesResponse:
    """Add all frames of a call, also to the store; uploads to one session are serialised.

    ``check_bytes`` raises if the caller's frames exceed its limit.  Raises the errors of AppendFrames.
    """
    frames = session.frames
    if not isinstance(frames, FrameStore):
        raise InvalidRequest("a live session receives frames by SegmentStream", field="config.session_id")
    async with frames.adding, session.replicator.upload_lock():
        if config.HasField("first_frame_index") and config.first_frame_index != frames.num_frames:
            raise Conflict(
                f"the session has {frames.num_frames} frames, not {config.first_frame_index}",
                field="config.first_frame_index",
                num_frames=frames.num_frames,
            )
        first = await _add_frames(session, frames, requests, limit, check_bytes)
        response = segmentation_pb2.AppendFramesResponse(
            first_frame_index=first,
            num_frames=frames.num_frames,
            width=frames.width,
            height=frames.height,
            frames_per_second=frames.frames_per_second,
        )
        await session.replicator.replicate_upload(first, config, response)
    await session.prepare_reader()
    return response


async def _add_frames(
    session: GatewaySession,
    frames: FrameStore,
    requests: Requests,
    limit: PixelLimit,
    check_bytes: Callable[[], None],
) -> int:
    """Add all frames of a call or none; returns the index of the first.

    The steps run on one thread, so the cancellation of a call interrupts no step; its frames are dropped
    after the step.
    """
    try:
        addition = await frames.on_thread(Addition, frames)
    except FileNotFoundError as error:
        raise SessionNotFound("the session has ended", session_id=session.session_id) from error
    try:
        async for request in requests:
            match request.WhichOneof("content"):
                case "frame":
                    image = wire.image_from_proto(request.frame, field="frame", limit=limit)
                    await frames.on_thread(addition.add_frame, image)
                case "video_chunk":
                    await frames.on_thread(addition.add_video_chunk, request.video_chunk)
                case "finish":
                    return await frames.on_thread(addition.commit)
                case _:
                    raise InvalidRequest("only frames may follow the configuration", field="content")
            session.upload_bytes = addition.num_bytes
            check_bytes()
        raise InvalidRequest("the call ended without a finish message", field="content")
    finally:
        session.upload_bytes = 0
        await frames.on_thread(addition.close)


async def drain_requests(requests: Requests, remaining: float | None) -> None:
    """Read and drop the rest of an upload; ``remaining`` are the seconds to its deadline.

    gRPC's asyncio client loses a response that it receives while it is still sending messages: it reports
    the failure of the write instead of the error.
    """
    seconds = DRAIN_SECONDS if remaining is None else min(DRAIN_SECONDS, remaining / 2)
    messages = aiter(requests)
    # The client may send nothing more, or too much; the error may be lost then.
    with contextlib.suppress(TimeoutError, StopAsyncIteration):
        async with asyncio.timeout(seconds):
            while True:
                async with asyncio.timeout(PAUSE_SECONDS):
                    await anext(messages)
