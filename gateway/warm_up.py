"""Warm-up of the gateway: one short session through both services before the gateway is ready.

The other services warm up their models themselves.  This warm-up opens connections, also those from
trackers to encoders, and runs the gateway's own code once, for example the code that reads a video.
"""

import logging
import time
import uuid
from importlib.resources import files
from pathlib import Path

import av
import grpc
from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN_CONTEXT

from gateway.api_keys import ANYBODY
from gateway.backends.encoders import EncodeOptions, Encoders
from gateway.backends.image_encoding import encode_image
from gateway.frames.frame_store import Addition, FrameLimits, FrameStore
from gateway.sessions.pins import unpin
from gateway.sessions.session import GatewaySession
from gateway.sessions.session_router import SessionRouter
from gateway.streams.track_call import TrackCall
from maskmesh import telemetry, wire
from maskmesh.errors import MaskmeshError
from maskmesh.internal.v1 import tracker_pb2
from maskmesh.masks import MaskOptions
from maskmesh.media.pictures import PixelLimit
from maskmesh.types import EmbeddingRef, Image, Point, Prompt

logger = logging.getLogger(__name__)

# Two frames of 640 x 360, H.264.
CLIP = files("gateway") / "warm_up.mp4"

SECONDS = 60.0
_LIMITS = FrameLimits(max_bytes=2**24, max_frames=2, pixels=PixelLimit(640 * 360))


async def warm_up(encoders: Encoders, router: SessionRouter, folder: Path) -> None:
    """Prompt an object on the first frame of a clip and track it on the second; ``folder`` stores the
    frames.

    A failure is logged; the gateway becomes ready nevertheless, and calls report the error.
    """
    session_id = f"warm-up-{uuid.uuid4().hex}"
    start = time.perf_counter()
    with telemetry.tracer().start_as_current_span(telemetry.WARM_UP):
        try:
            frames = FrameStore(session_id, folder, _LIMITS)
            try:
                images = await _read_clip(frames)
                owner, _ = await router.begin(session_id, SECONDS, live=False)
                session = GatewaySession(session_id, SECONDS, frames, owner, ANYBODY, INVALID_SPAN_CONTEXT)
                try:
                    await _track(encoders, router, session, images)
                finally:
                    await router.delete(session_id, owner)
                    await unpin(encoders, session, session.encoder_addresses)
            finally:
                await frames.close()
        except (MaskmeshError, grpc.RpcError, av.FFmpegError, OSError) as error:
            logger.warning("the warm-up failed, the first call will take longer: %s", error)
    logger.info("warm after %.2f s", time.perf_counter() - start)


async def _read_clip(frames: FrameStore) -> list[Image]:
    """Upload the clip and read its frames, as a session does."""
    addition = await frames.on_thread(Addition, frames)
    await frames.on_thread(addition.add_video_chunk, CLIP.read_bytes())
    await frames.on_thread(addition.commit)
    reader = frames.open_reader()
    try:
        return [await reader.read(index) for index in range(frames.num_frames)]
    finally:
        reader.close()


async def _track(
    encoders: Encoders, router: SessionRouter, session: GatewaySession, images: list[Image]
) -> None:
    options = EncodeOptions(interactive=True, owner=session.session_id, pin_seconds=SECONDS, timeout=SECONDS)
    for index, image in enumerate(images):
        session.set_ref(index, (await encode_image(encoders, image, options)).ref)
    refs = session.refs
    prompt = Prompt([Point(session.frames.width / 2, session.frames.height / 2)])
    click = tracker_pb2.AddPromptRequest(
        session_id=session.session_id,
        prompt=wire.prompt_to_proto(prompt),
        embedding=wire.embedding_ref_to_proto(refs[0]),
    )
    await router.call(session, "AddPrompt", click, SECONDS)

    async def encode(frame_index: int, is_gone: bool) -> EmbeddingRef:
        return refs[frame_index]

    traceparent = telemetry.traceparent(trace.get_current_span().get_span_context())
    call = TrackCall(router, session, timeout=SECONDS, encode=encode)
    try:
        await call.open(MaskOptions())
        for index, ref in refs.items():
            await call.send(index, ref, traceparent)
        await call.finish()
        async for _ in call.results():
            pass
    finally:
        await call.close()
