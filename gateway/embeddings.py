"""From a frame or an image to a reference to its embedding, and again where it is gone."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.backends import Encoded, EncoderBackend, Urgency
from gateway.session import GatewaySession
from maskmesh import telemetry
from maskmesh.errors import EmbeddingNotFound, ImageTooLarge, InvalidImage
from maskmesh.telemetry import StageRecorder
from maskmesh.types import EmbeddingRef, Image
from maskmesh.wire import image_key

T = TypeVar("T")

# How often an embedding is encoded again before the call gives up.
MAX_ATTEMPTS = 3

_seen: set[str] = set()  # stages that this process has run before


async def encode_image(encoder: EncoderBackend, image: Image, urgency: Urgency) -> EmbeddingRef:
    """Encode an image that belongs to no session."""
    key = await asyncio.to_thread(image_key, image)
    return (await encoder.encode(image, key, urgency)).ref


async def read_frame(frame_index: int, read: Callable[[], Awaitable[Image]]) -> tuple[Image, str]:
    """Read a frame and take its digest, as the stage ``decode_image`` of the current trace."""
    recorder = StageRecorder(seen=_seen)
    try:
        with recorder.stage(telemetry.DECODE_IMAGE, frame__index=frame_index):
            image = await read()
            return image, await asyncio.to_thread(image_key, image)
    finally:
        telemetry.emit(recorder.records, None)


async def encode_frame(
    session: GatewaySession,
    encoder: EncoderBackend,
    frame_index: int,
    image: Image,
    key: str,
    urgency: Urgency,
) -> Encoded:
    """Encode a frame of a session and remember where its embedding is.

    Raises InvalidImage naming the frame where it turns out to be broken.
    """
    try:
        encoded = await encoder.encode(image, key, urgency)
    except ImageTooLarge:
        raise
    except InvalidImage as error:
        raise InvalidImage(
            f"frame {frame_index}: {error.message}", field="frame_index", frame_index=frame_index
        ) from error
    session.remember_ref(frame_index, encoded.ref)
    return encoded


async def frame_ref(
    session: GatewaySession, encoder: EncoderBackend, frame_index: int, urgency: Urgency
) -> Encoded:
    """Where the embedding of a frame is, encoded now if it never was."""
    if frame_index in session.refs:
        return Encoded(session.refs[frame_index], time.time_ns())
    image, key = await read_frame(frame_index, lambda: session.read(frame_index))
    return await encode_frame(session, encoder, frame_index, image, key, urgency)


async def with_embedding(
    obtain: Callable[[], Awaitable[EmbeddingRef]],
    use: Callable[[EmbeddingRef], Awaitable[T]],
    forget: Callable[[], None],
) -> T:
    """Use an embedding; where it is gone meanwhile, forget it, obtain it again and try once more."""
    for attempt in range(MAX_ATTEMPTS):
        ref = await obtain()
        try:
            return await use(ref)
        except EmbeddingNotFound:
            forget()
            if attempt == MAX_ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")
