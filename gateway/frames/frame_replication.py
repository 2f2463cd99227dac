"""The frames of sessions in a shared store, so that any gateway can read them."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import numpy as np

from gateway.frames.frame_ring import FrameRing, KeptFrame, RingState
from gateway.frames.frame_store import Addition, FrameStore
from gateway.sessions.session import GatewaySession
from maskmesh.errors import InternalError
from maskmesh.rpc.idempotency import KeyedAnswer, request_digest
from maskmesh.storage.redis_store import PAUSE_SECONDS, StoreDown, stop
from maskmesh.storage.session_store import SessionRecord, SessionStore
from maskmesh.types import EncodedImage, Image, RawImage
from maskmesh.v1 import segmentation_pb2

logger = logging.getLogger(__name__)

PIECE_BYTES = 2**20

# So many pieces go to the store and come from it at once.
BATCH = 8

FRAMES_NOTE = "frames"
RING_NOTE = "ring"
UPLOAD_NOTE = "upload."

# An upload takes its time; whoever wants to add frames meanwhile waits for as long.
ADDING_SECONDS = 600.0


class _Stored(NamedTuple):
    """What is noted of frames that are in the store."""

    num_frames: int
    num_pieces: int  # of the video, 0 where there are images


async def put_frames(shared: SessionStore, session_id: str, frames: FrameStore, first: int) -> None:
    """Put what was added from frame ``first`` on into the store.  Raises StoreDown."""
    pieces = 0
    batch: dict[str, bytes] = {}
    async for name, data in _parts(frames, first):
        pieces += name.startswith("video.")
        batch[name] = data
        if len(batch) == BATCH:
            await shared.put_frames(session_id, batch, {})
            batch = {}
    stored = _Stored(frames.num_frames, pieces)
    await shared.put_frames(session_id, batch, {FRAMES_NOTE: json.dumps(stored)})


async def _fetch_frames(shared: SessionStore, record: SessionRecord, frames: FrameStore) -> None:
    """Add what the store has more of than is here.  Raises StoreDown."""
    stored = _stored(record)
    if stored.num_frames <= frames.num_frames:
        return
    names = [f"video.{i}" for i in range(stored.num_pieces)]
    names = names or [f"image.{i}" for i in range(frames.num_frames, stored.num_frames)]
    addition = await frames.on_thread(Addition, frames)
    try:
        for start in range(0, len(names), BATCH):
            found = await shared.get_frames(record.session_id, names[start : start + BATCH])
            for name, data in zip(names[start:], found, strict=False):
                if data is None:
                    raise InternalError("the store has lost frames of the session", name=name)
                if stored.num_pieces:
                    await frames.on_thread(addition.add_video_chunk, data)
                else:
                    await frames.on_thread(addition.add_frame, _unpack(data))
        await frames.on_thread(addition.commit)
    finally:
        await frames.on_thread(addition.close)


def _stored(record: SessionRecord) -> _Stored:
    note = record.attributes.get(FRAMES_NOTE)
    return _Stored(0, 0) if note is None else _Stored(*json.loads(note))


async def _parts(frames: FrameStore, first: int) -> AsyncIterator[tuple[str, bytes]]:
    if frames.video is not None:
        with (frames.folder / "video").open("rb") as file:
            number = 0
            while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
                yield f"video.{number}", piece
                number += 1
        return
    reader = frames.open_reader()
    try:
        for index in range(first, frames.num_frames):
            yield f"image.{index}", await asyncio.to_thread(_pack, await reader.read(index))
    finally:
        reader.close()


class RingReplicator:
    """Writes the frames of one live session as they are let in, in order and in the background.

    While the store is down only the last frames wait, as in the ring itself.
    """

    def __init__(self, shared: SessionStore, session_id: str, ring: FrameRing) -> None:
        self._shared = shared
        self._session_id = session_id
        self._ring = ring
        self._stored: set[int] = set()
        self._changed = asyncio.Event()
        self._writer = asyncio.ensure_future(self._write())
        ring.on_append = self._changed.set

    def knows(self, frames: Iterable[int]) -> None:
        """These are in the store already."""
        self._stored.update(frames)

    async def close(self) -> None:
        """Stop."""
        self._ring.on_append = lambda: None
        await stop(self._writer)

    async def _write(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            kept = self._ring.kept()
            new = {i: frame for i, frame in kept.items() if i not in self._stored}
            gone = self._stored - kept.keys()
            state = self._ring.state()
            try:
                fields = await asyncio.to_thread(_pack_all, new)
                await self._shared.put_frames(self._session_id, fields, {RING_NOTE: json.dumps(state)})
                if gone:
                    await self._shared.drop_frames(self._session_id, [f"ring.{i}" for i in gone])
                self._stored = set(kept)
            except StoreDown:
                await asyncio.sleep(PAUSE_SECONDS)
                self._changed.set()


async def publish_frames(shared: SessionStore, session: GatewaySession) -> None:
    """Put all frames of a session into the store.  Raises StoreDown."""
    if isinstance(session.frames, FrameStore):
        if session.frames.num_frames:
            await put_frames(shared, session.session_id, session.frames, 0)
    elif isinstance(session.frames, FrameRing) and session.ring is None:
        session.ring = RingReplicator(shared, session.session_id, session.frames)


async def adopt_frames(shared: SessionStore, record: SessionRecord, session: GatewaySession) -> None:
    """Take in frames that other gateways have added.  Raises StoreDown."""
    frames = session.frames
    if isinstance(frames, FrameStore):
        if _stored(record).num_frames > frames.num_frames:  # else an upload may go on for long
            async with session.appending:
                await _fetch_frames(shared, record, frames)
    elif isinstance(frames, FrameRing):
        taken = await _fetch_ring(shared, record, frames)
        await publish_frames(shared, session)
        if session.ring is not None:
            session.ring.knows(taken)


@asynccontextmanager
async def adding(shared: SessionStore | None, session: GatewaySession) -> AsyncIterator[None]:
    """Let no other gateway add frames meanwhile, and begin with those that others have added.

    Raises Conflict where another one is at it for too long.
    """
    if shared is None:
        yield
        return
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(shared.lock(session.session_id, patience_seconds=ADDING_SECONDS))
            record = await shared.get(session.session_id)
            if record is not None and isinstance(session.frames, FrameStore):
                await _fetch_frames(shared, record, session.frames)
        except StoreDown as error:
            logger.warning("frames of session %s are added here alone: %s", session.session_id, error)
        yield


async def added(
    shared: SessionStore | None,
    session: GatewaySession,
    first: int,
    config: segmentation_pb2.AppendFramesConfig,
    response: segmentation_pb2.AppendFramesResponse,
) -> None:
    """Put frames into the store that were added from ``first`` on, and the answer to a call with a key."""
    if shared is None or not isinstance(session.frames, FrameStore):
        return
    try:
        await put_frames(shared, session.session_id, session.frames, first)
        if config.idempotency_key:
            text = f"{request_digest(config).hex()}.{response.SerializeToString().hex()}"
            await shared.put_frames(session.session_id, {}, {f"{UPLOAD_NOTE}{config.idempotency_key}": text})
    except StoreDown as error:
        logger.warning("frames of session %s are here alone: %s", session.session_id, error)


async def _fetch_ring(shared: SessionStore, record: SessionRecord, ring: FrameRing) -> list[int]:
    """Returns the frames that were taken from the store."""
    if RING_NOTE not in record.attributes:
        return []
    state = RingState(*json.loads(record.attributes[RING_NOTE]))
    if state.num_frames <= ring.num_frames:
        return []
    found = await shared.get_frames(record.session_id, [f"ring.{index}" for index, _ in state.kept])
    ring.restore(
        state,
        {
            index: KeptFrame(_unpack(data), sequence)
            for (index, sequence), data in zip(state.kept, found, strict=True)
            if data is not None
        },
    )
    return [index for index, _ in state.kept]


def recall_uploads(record: SessionRecord, session: GatewaySession) -> None:
    """Take in what uploads were answered by other gateways."""
    for name, text in record.attributes.items():
        key = name.removeprefix(UPLOAD_NOTE)
        if name.startswith(UPLOAD_NOTE) and not session.answers.contains(key):
            digest, response = map(bytes.fromhex, text.split("."))
            message = segmentation_pb2.AppendFramesResponse.FromString(response)
            session.answers.insert(KeyedAnswer(key, digest, message))


def _pack_all(frames: Mapping[int, KeptFrame]) -> dict[str, bytes]:
    return {f"ring.{index}": _pack(frame.image) for index, frame in frames.items()}


def _pack(image: Image) -> bytes:
    if isinstance(image, EncodedImage):
        return b"e" + image.data
    height, width, _ = image.pixels.shape
    size = int(width).to_bytes(4, "little") + int(height).to_bytes(4, "little")
    return b"".join((b"r", size, image.pixels.tobytes()))


def _unpack(data: bytes) -> Image:
    if data[:1] == b"e":
        return EncodedImage(data[1:])
    width, height = (int.from_bytes(data[i : i + 4], "little") for i in (1, 5))
    return RawImage(np.frombuffer(data, np.uint8, offset=9).reshape(height, width, 3))
