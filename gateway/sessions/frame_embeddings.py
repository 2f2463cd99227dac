"""Encodes frames of a session and returns references to their embeddings."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from gateway.backends.encoders import Encoded, EncodeOptions, Encoders
from gateway.backends.image_encoding import digest_of
from gateway.sessions.session import GatewaySession
from maskmesh import telemetry
from maskmesh.errors import ImageTooLarge, InvalidImage, InvalidVideo
from maskmesh.telemetry import StageRecord, StageRecorder, WorkSummary, add_seconds
from maskmesh.types import Image

_seen: set[str] = set()  # stages that this process has run


class ReadFrame(NamedTuple):
    """A frame, its digest, and the records of the stages that read it."""

    image: Image
    key: str
    records: Sequence[StageRecord]


async def read_frame(frame_index: int, read: Callable[[int], Awaitable[Image]]) -> ReadFrame:
    """Read a frame and compute its digest, as the stage ``decode_image`` of the current trace."""
    recorder = StageRecorder(seen=_seen)
    try:
        with recorder.stage(telemetry.DECODE_IMAGE, {telemetry.FRAME_INDEX: frame_index}):
            try:
                image = await read(frame_index)
            except InvalidVideo as error:
                raise InvalidVideo(error.message, field="frame_index", frame_index=frame_index) from error
            key = await digest_of(image)
        return ReadFrame(image, key, recorder.records)
    finally:
        telemetry.emit_soon(recorder.records, None)


async def encode_frame(
    session: GatewaySession,
    encoders: Encoders,
    frame_index: int,
    frame: ReadFrame,
    options: EncodeOptions,
) -> Encoded:
    """Encode a frame of a session and store the reference to its embedding in the session.

    Raises InvalidImage with the frame's index if the image cannot be decoded.
    """
    encoded = await encode_read_frame(encoders, frame_index, frame, options)
    session.set_ref(frame_index, encoded.ref)
    return encoded


async def encode_received_frame(
    session: GatewaySession, encoders: Encoders, frame_index: int, image: Image, options: EncodeOptions
) -> Encoded:
    """Encode a frame that was just received, as :func:`encode_frame`."""
    recorder = StageRecorder()
    with recorder.handling(telemetry.PREPARE):
        key = await digest_of(image)
    telemetry.emit_soon(recorder.records, None)
    frame = ReadFrame(image, key, recorder.records)
    return await encode_frame(session, encoders, frame_index, frame, options)


async def encode_read_frame(
    encoders: Encoders, frame_index: int, frame: ReadFrame, options: EncodeOptions
) -> Encoded:
    """Encode a frame.  Raises InvalidImage with the frame's index if the image cannot be decoded."""
    waits = StageRecorder()
    if frame.records:
        waits.wait(frame.records[-1].end_ns, time.time_ns(), "event_loop")
        telemetry.emit_soon(waits.records, None)
    try:
        encoded = await encoders.encode(frame.image, frame.key, options)
    except ImageTooLarge:
        raise
    except InvalidImage as error:
        raise InvalidImage(
            f"frame {frame_index}: {error.message}", field="frame_index", frame_index=frame_index
        ) from error
    read_seconds = telemetry.stage_seconds(frame.records)
    work = WorkSummary().add_records([*frame.records, *waits.records])
    return encoded._replace(
        stage_seconds=add_seconds(read_seconds, encoded.stage_seconds),
        work=work if encoded.work is None else work.add(encoded.work),
    )


async def frame_embedding(
    session: GatewaySession, encoders: Encoders, frame_index: int, options: EncodeOptions
) -> Encoded:
    """The embedding of a frame, which is encoded if the session has no reference to it."""
    if frame_index in session.refs:
        return Encoded(session.refs[frame_index], time.time_ns(), telemetry.REFERENCE)
    frame = await read_frame(frame_index, session.read)
    return await encode_frame(session, encoders, frame_index, frame, options)
