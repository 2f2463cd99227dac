"""One small session through both services, before the gateway says that it is ready.

The services have warmed up their models.  What is left for a first call to pay is connections, also that of
the tracker to the encoder, and whatever runs for the first time in this process, as the reading of a video.
"""

import logging
import time
import uuid
from pathlib import Path

import av
import grpc
import numpy as np
from opentelemetry.trace import INVALID_SPAN_CONTEXT

from gateway.api_keys import ANYBODY
from gateway.backends.embeddings import encode_image
from gateway.backends.encoders import Encoders, EncodeOptions
from gateway.backends.pins import unpin
from gateway.backends.track_call import TrackCall
from gateway.frames.frame_store import Addition, FrameLimits, FrameStore
from gateway.sessions.session import GatewaySession
from gateway.sessions.session_router import SessionRouter
from maskmesh import telemetry, wire
from maskmesh.cli.media import video_writer
from maskmesh.errors import MaskmeshError
from maskmesh.internal.v1 import tracker_pb2
from maskmesh.masks import MaskOptions
from maskmesh.types import EmbeddingRef, Image, Point, Prompt

logger = logging.getLogger(__name__)

HEIGHT, WIDTH = 360, 640
FRAMES = 2
SECONDS = 60.0
_LIMITS = FrameLimits(max_bytes=2**24, max_frames=FRAMES, max_pixels=WIDTH * HEIGHT)


async def warm_up(encoder: Encoders, router: SessionRouter, folder: Path) -> None:
    """Click on an empty picture of a video and track it through another; the video is in ``folder``.

    Where that fails, calls will say why: the log does, too, and the gateway is ready nevertheless.
    """
    session_id = f"warm-up-{uuid.uuid4().hex}"
    start = time.perf_counter()
    with telemetry.tracer().start_as_current_span(telemetry.WARM_UP):
        try:
            frames = FrameStore(session_id, folder, _LIMITS)
            try:
                pictures = await _read_video(frames)
                owner, _ = await router.begin(session_id, SECONDS, live=False)
                session = GatewaySession(session_id, SECONDS, frames, owner, ANYBODY, INVALID_SPAN_CONTEXT)
                refs: list[EmbeddingRef] = []
                try:
                    await _track(encoder, router, session, pictures, refs)
                finally:
                    await router.backend(owner).delete_session(session_id, owner.epoch)
                    await unpin(encoder, session, {ref.address for ref in refs})
            finally:
                await frames.close()
        except (MaskmeshError, grpc.RpcError, av.FFmpegError, OSError) as error:
            logger.warning("the first call will take longer: %s", error)
    logger.info("warm after %.2f s", time.perf_counter() - start)


async def _read_video(frames: FrameStore) -> list[Image]:
    """The pictures of a video that is written for this, as those of a session are read."""
    addition = await frames.on_thread(Addition, frames)
    await frames.on_thread(addition.add_video_chunk, await frames.on_thread(_make_video, frames.folder))
    await frames.on_thread(addition.commit)
    reader = frames.open_reader()
    try:
        return [await reader.read(index) for index in range(FRAMES)]
    finally:
        reader.close()


def _make_video(folder: Path) -> bytes:
    path = folder / "warm-up.mp4"
    with video_writer(path, 25.0) as write:
        for value in range(FRAMES):
            write(np.full((HEIGHT, WIDTH, 3), 100 * value, np.uint8))
    return path.read_bytes()


async def _track(
    encoder: Encoders,
    router: SessionRouter,
    session: GatewaySession,
    pictures: list[Image],
    refs: list[EmbeddingRef],
) -> None:
    encode_options = EncodeOptions(interactive=True, owner=session.session_id, pin_seconds=SECONDS, timeout=SECONDS)
    for picture in pictures:
        refs.append(await encode_image(encoder, picture, encode_options))
    prompt = wire.prompt_to_proto(Prompt([Point(WIDTH / 2, HEIGHT / 2)]))
    click = tracker_pb2.AddPromptRequest(
        session_id=session.session_id, prompt=prompt, epoch=session.owner.epoch
    )
    click.embedding.CopyFrom(wire.embedding_ref_to_proto(refs[0]))
    await router.backend(session.owner).add_prompt(click, SECONDS)

    async def encode(frame_index: int, is_gone: bool) -> EmbeddingRef:
        return refs[frame_index]

    call = TrackCall(router, session, timeout=SECONDS, encode=encode)
    try:
        await call.open(MaskOptions())
        for index, ref in enumerate(refs):
            await call.send(index, ref, "")
        await call.finish()
        async for _ in call.results():
            pass
    finally:
        await call.close()
