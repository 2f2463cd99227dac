"""Replication of the frames of sessions to the session store, from which any gateway can read them."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import numpy as np

from gateway.frames.frame_ring import FrameRing, KeptFrame, RingState
from gateway.frames.frame_store import Addition, FrameStore
from gateway.frames.frames import Frames
from maskmesh.aio import stop
from maskmesh.errors import InternalError
from maskmesh.rpc.idempotency import IdempotencyCache, KeyedResponse, request_digest
from maskmesh.storage.redis_store import PAUSE_SECONDS, StoreDown
from maskmesh.storage.session_record import SessionRecord
from maskmesh.storage.session_store import SessionStore
from maskmesh.types import EncodedImage, Image, RawImage
from maskmesh.v1 import segmentation_pb2

logger = logging.getLogger(__name__)

PIECE_BYTES = 2**20

# Pieces that are written to the store, or read from it, in one request.
BATCH = 8

# Attributes of a session in the store.
FRAMES_ATTRIBUTE = "frames"
RING_ATTRIBUTE = "ring"
UPLOAD_ATTRIBUTE = "upload."

# How long an upload waits for an upload at another gateway.
UPLOAD_LOCK_SECONDS = 600.0


class FrameReplicator:
    """Copies the frames of one session to and from the store.  This class does nothing; it is used without
    a store.
    """

    async def publish(self) -> None:
        """Write all frames to the store.  Raises StoreDown."""

    async def adopt(self, record: SessionRecord) -> None:
        """Read the frames that other gateways have added.  Raises StoreDown."""

    @asynccontextmanager
    async def upload_lock(self) -> AsyncIterator[None]:
        """Exclude uploads at other gateways, and read the frames that those gateways have added.

        Raises Conflict if another upload takes too long.
        """
        yield

    async def replicate_upload(
        self,
        first: int,
        config: segmentation_pb2.AppendFramesConfig,
        response: segmentation_pb2.AppendFramesResponse,
    ) -> None:
        """Write the frames from index ``first`` on, and the response to an upload with a key."""

    async def close(self) -> None:
        """Stop replicating."""


def frame_replicator(store: SessionStore | None, session_id: str, frames: Frames) -> FrameReplicator:
    """The replicator of a session's frames."""
    if store is None:
        return FrameReplicator()
    if isinstance(frames, FrameRing):
        return RingReplicator(store, session_id, frames)
    assert isinstance(frames, FrameStore), "frames are in a ring or on disk"
    return UploadReplicator(store, session_id, frames)


def restore_upload_responses(record: SessionRecord, responses: IdempotencyCache) -> None:
    """Add the responses that other gateways gave to uploads."""
    for name, text in record.attributes.items():
        key = name.removeprefix(UPLOAD_ATTRIBUTE)
        if name.startswith(UPLOAD_ATTRIBUTE) and key not in responses:
            digest, response = map(bytes.fromhex, text.split("."))
            message = segmentation_pb2.AppendFramesResponse.FromString(response)
            responses.insert(KeyedResponse(key, digest, message))


class _StoredFrames(NamedTuple):
    """The frames of a session in the store."""

    num_frames: int
    num_pieces: int  # of the video; 0 for images

    @classmethod
    def of(cls, record: SessionRecord) -> "_StoredFrames":
        text = record.attributes.get(FRAMES_ATTRIBUTE)
        return cls(0, 0) if text is None else cls(*json.loads(text))


class UploadReplicator(FrameReplicator):
    """Copies uploaded images and videos."""

    def __init__(self, store: SessionStore, session_id: str, frames: FrameStore) -> None:
        self._store = store
        self._session_id = session_id
        self._frames = frames

    async def publish(self) -> None:
        if self._frames.num_frames:
            await self._write(0)

    async def adopt(self, record: SessionRecord) -> None:
        # Without new frames the lock is not taken, because an upload may hold it for long.
        if _StoredFrames.of(record).num_frames > self._frames.num_frames:
            async with self._frames.adding:
                await self._read(record)

    @asynccontextmanager
    async def upload_lock(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            try:
                lock = self._store.lock(self._session_id, wait_seconds=UPLOAD_LOCK_SECONDS)
                await stack.enter_async_context(lock)
                record = await self._store.get(self._session_id)
                if record is not None:
                    await self._read(record)
            except StoreDown as error:
                logger.warning(
                    "frames of session %s are added at this gateway only: %s", self._session_id, error
                )
            yield

    async def replicate_upload(
        self,
        first: int,
        config: segmentation_pb2.AppendFramesConfig,
        response: segmentation_pb2.AppendFramesResponse,
    ) -> None:
        try:
            await self._write(first)
            if config.idempotency_key:
                text = f"{request_digest(config).hex()}.{response.SerializeToString().hex()}"
                name = f"{UPLOAD_ATTRIBUTE}{config.idempotency_key}"
                await self._store.put_frames(self._session_id, {}, {name: text})
        except StoreDown as error:
            logger.warning("frames of session %s are at this gateway only: %s", self._session_id, error)

    async def _write(self, first: int) -> None:
        """Write the frames from index ``first`` on.  Raises StoreDown."""
        num_pieces = 0
        batch: dict[str, bytes] = {}
        async for name, data in self._pieces(first):
            num_pieces += name.startswith("video.")
            batch[name] = data
            if len(batch) == BATCH:
                await self._store.put_frames(self._session_id, batch, {})
                batch = {}
        stored = _StoredFrames(self._frames.num_frames, num_pieces)
        await self._store.put_frames(self._session_id, batch, {FRAMES_ATTRIBUTE: json.dumps(stored)})

    async def _read(self, record: SessionRecord) -> None:
        """Add the frames that are only in the store.  Raises StoreDown."""
        frames, stored = self._frames, _StoredFrames.of(record)
        if stored.num_frames <= frames.num_frames:
            return
        names = [f"video.{i}" for i in range(stored.num_pieces)]
        names = names or [f"image.{i}" for i in range(frames.num_frames, stored.num_frames)]
        addition = await frames.on_thread(Addition, frames)
        try:
            for start in range(0, len(names), BATCH):
                pieces = await self._store.get_frames(self._session_id, names[start : start + BATCH])
                for name, data in zip(names[start:], pieces, strict=False):
                    if data is None:
                        raise InternalError("the store has lost frames of the session", name=name)
                    if stored.num_pieces:
                        await frames.on_thread(addition.add_video_chunk, data)
                    else:
                        await frames.on_thread(addition.add_frame, _unpack(data))
            await frames.on_thread(addition.commit)
        finally:
            await frames.on_thread(addition.close)

    async def _pieces(self, first: int) -> AsyncIterator[tuple[str, bytes]]:
        frames = self._frames
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


class RingReplicator(FrameReplicator):
    """Copies the last frames of a live stream, in order and in the background.

    While the store is down, only the frames that the ring holds stay queued for writing.
    """

    def __init__(self, store: SessionStore, session_id: str, ring: FrameRing) -> None:
        self._store = store
        self._session_id = session_id
        self._ring = ring
        self._stored: set[int] = set()
        self._changed = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    async def publish(self) -> None:
        """Start the writer."""
        if self._writer is None:
            self._writer = asyncio.ensure_future(self._write())
            self._ring.on_append = self._changed.set

    async def adopt(self, record: SessionRecord) -> None:
        adopted = await self._read(record)
        await self.publish()
        self._stored.update(adopted)

    async def close(self) -> None:
        self._ring.on_append = lambda: None
        if self._writer is not None:
            await stop(self._writer)

    async def _write(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            ring_frames = self._ring.kept()
            unstored_frames = {i: frame for i, frame in ring_frames.items() if i not in self._stored}
            dropped = self._stored - ring_frames.keys()
            state = self._ring.state()
            try:
                fields = await asyncio.to_thread(_pack_all, unstored_frames)
                await self._store.put_frames(self._session_id, fields, {RING_ATTRIBUTE: json.dumps(state)})
                if dropped:
                    await self._store.drop_frames(self._session_id, [f"ring.{i}" for i in dropped])
                self._stored = set(ring_frames)
            except StoreDown:
                await asyncio.sleep(PAUSE_SECONDS)
                self._changed.set()

    async def _read(self, record: SessionRecord) -> list[int]:
        """Restore the ring from the store if the store has newer frames; returns the frames that were
        read.
        """
        if RING_ATTRIBUTE not in record.attributes:
            return []
        state = RingState(*json.loads(record.attributes[RING_ATTRIBUTE]))
        if state.num_frames <= self._ring.num_frames:
            return []
        fields = await self._store.get_frames(self._session_id, [f"ring.{index}" for index, _ in state.kept])
        if state.num_frames <= self._ring.num_frames:
            return []  # a stream has begun meanwhile, and has newer frames
        self._ring.restore(
            state,
            {
                index: KeptFrame(_unpack(data), sequence)
                for (index, sequence), data in zip(state.kept, fields, strict=True)
                if data is not None
            },
        )
        return [index for index, _ in state.kept]


def _pack_all(frames: Mapping[int, KeptFrame]) -> dict[str, bytes]:
    return {f"ring.{index}": _pack(frame.image) for index, frame in frames.items()}


def _pack(image: Image) -> bytes:
    """An image for the store: ``e`` and its file, or ``r``, width, height (4 bytes, little-endian) and
    pixels.
    """
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
