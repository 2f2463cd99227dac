"""From a frame or an image to a reference to its embedding, and again where it is gone."""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, TypeVar

from gateway.backends.encoders import Encoded, Encoders, EncodeOptions, on_thread_if_large
from gateway.sessions.session import GatewaySession
from maskmesh import telemetry
from maskmesh.errors import (
    UNREACHABLE,
    EmbeddingNotFound,
    ImageTooLarge,
    InvalidImage,
    InvalidVideo,
    Unavailable,
)
from maskmesh.images import image_digest
from maskmesh.telemetry import StageRecorder, add_seconds
from maskmesh.types import EmbeddingRef, Image

T = TypeVar("T")

# How often an embedding is encoded again before the call gives up.
MAX_ATTEMPTS = 3

_seen: set[str] = set()  # stages that this process has run before


async def key_of(image: Image) -> str:
    """The digest of an image, as :func:`maskmesh.images.image_digest` has it; not long on the event loop."""
    return await on_thread_if_large(image, image_digest, image)


async def encode_image(encoder: Encoders, image: Image, encode_options: EncodeOptions) -> EmbeddingRef:
    """Encode an image that belongs to no session."""
    key = await key_of(image)
    return (await encoder.encode(image, key, encode_options)).ref


class ReadFrame(NamedTuple):
    """A frame, its digest, and how long the stages took that brought it."""

    image: Image
    key: str
    stage_seconds: Mapping[str, float]


async def read_frame(frame_index: int, read: Callable[[], Awaitable[Image]]) -> ReadFrame:
    """Read a frame and take its digest, as the stage ``decode_image`` of the current trace."""
    recorder = StageRecorder(seen=_seen)
    try:
        with recorder.stage(telemetry.DECODE_IMAGE, frame__index=frame_index):
            try:
                image = await read()
            except InvalidVideo as error:
                raise InvalidVideo(error.message, field="frame_index", frame_index=frame_index) from error
            key = await key_of(image)
        return ReadFrame(image, key, telemetry.stage_seconds(recorder.records))
    finally:
        telemetry.emit(recorder.records, None)


async def encode_frame(
    session: GatewaySession,
    encoder: Encoders,
    frame_index: int,
    image: Image,
    key: str,
    encode_options: EncodeOptions,
) -> Encoded:
    """Encode a frame of a session and remember where its embedding is.

    Raises InvalidImage naming the frame where it turns out to be broken.
    """
    try:
        encoded = await encoder.encode(image, key, encode_options)
    except ImageTooLarge:
        raise
    except InvalidImage as error:
        raise InvalidImage(
            f"frame {frame_index}: {error.message}", field="frame_index", frame_index=frame_index
        ) from error
    session.remember_ref(frame_index, encoded.ref)
    return encoded


async def frame_ref(
    session: GatewaySession, encoder: Encoders, frame_index: int, encode_options: EncodeOptions
) -> Encoded:
    """Where the embedding of a frame is, encoded now if it never was."""
    if frame_index in session.refs:
        return Encoded(session.refs[frame_index], time.time_ns())
    read = await read_frame(frame_index, lambda: session.read(frame_index))
    encoded = await encode_frame(session, encoder, frame_index, read.image, read.key, encode_options)
    return encoded._replace(stage_seconds=add_seconds(read.stage_seconds, encoded.stage_seconds))


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
        except EmbeddingNotFound as error:
            forget()
            if attempt == MAX_ATTEMPTS - 1 and UNREACHABLE in error.metadata:
                raise Unavailable("the tracker does not reach the encoder", service="encoder") from error
            if attempt == MAX_ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")
