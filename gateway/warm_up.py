"""One small session through both services, before the gateway says that it is ready.

The services have warmed up their models.  What is left for a first call to pay is connections, also that of
the tracker to the encoder, and whatever runs for the first time in this process.
"""

import logging
import time
import uuid

import grpc
import numpy as np

from gateway.backends import EncoderBackend, TrackerBackend, Urgency
from gateway.embeddings import encode_image
from gateway.pins import unpin
from gateway.track_call import TrackCall
from maskmesh import telemetry, wire
from maskmesh.errors import MaskmeshError
from maskmesh.internal.v1 import tracker_pb2
from maskmesh.masks import MaskOptions
from maskmesh.types import EmbeddingRef, Point, Prompt, RawImage

logger = logging.getLogger(__name__)

HEIGHT, WIDTH = 48, 64
SECONDS = 60.0


async def warm_up(encoder: EncoderBackend, tracker: TrackerBackend) -> None:
    """Click on an empty picture and track it through another.

    Where that fails, calls will say why: the log does, too, and the gateway is ready nevertheless.
    """
    session_id = f"warm-up-{uuid.uuid4().hex}"
    start = time.perf_counter()
    with telemetry.tracer().start_as_current_span(telemetry.WARM_UP):
        try:
            await tracker.create_session(session_id, SECONDS)
            try:
                await _track(encoder, tracker, session_id)
            finally:
                await tracker.delete_session(session_id)
                await unpin(encoder, session_id, [])
        except (MaskmeshError, grpc.RpcError) as error:
            logger.warning("the first call will take longer: %s", error)
    logger.info("warm after %.2f s", time.perf_counter() - start)


async def _track(encoder: EncoderBackend, tracker: TrackerBackend, session_id: str) -> None:
    urgency = Urgency(interactive=True, owner=session_id, pin_seconds=SECONDS, timeout=SECONDS)
    pictures = [RawImage(np.full((HEIGHT, WIDTH, 3), value, np.uint8)) for value in (0, 1)]
    refs = [await encode_image(encoder, picture, urgency) for picture in pictures]
    prompt = wire.prompt_to_proto(Prompt([Point(WIDTH / 2, HEIGHT / 2)]))
    click = tracker_pb2.AddPromptRequest(session_id=session_id, prompt=prompt)
    click.embedding.CopyFrom(wire.ref_to_proto(refs[0]))
    await tracker.add_prompt(click, SECONDS)

    async def again(frame_index: int) -> EmbeddingRef:
        return refs[frame_index]

    call = TrackCall(tracker, timeout=SECONDS, answer=again)
    try:
        await call.open(session_id, MaskOptions())
        for index, ref in enumerate(refs):
            await call.send(index, ref, "")
        await call.finish()
        async for _ in call.results():
            pass
    finally:
        await call.close()
