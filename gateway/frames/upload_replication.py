"""Replication of uploaded images and videos to the session store."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import NamedTuple

from gateway.frames.frame_replication import FrameReplicator, pack_image, unpack_image
from gateway.frames.frame_store import Addition, FrameStore
from maskmesh.errors import Conflict, InternalError
from maskmesh.rpc.idempotency import IdempotencyCache, KeyedResponse, request_digest
from maskmesh.storage.redis_store import StoreDown
from maskmesh.storage.session_record import SessionRecord
from maskmesh.storage.session_store import SessionStore
from maskmesh.v1 import segmentation_pb2

logger = logging.getLogger(__name__)

PIECE_BYTES = 2**20

# Pieces that are written to the store, or read from it, in one request.
BATCH = 8

# Attributes of a session in the store.
FRAMES_ATTRIBUTE = "frames"
UPLOAD_ATTRIBUTE = "upload."

# How long an upload waits for an upload at another gateway, and how long another call waits for it that finds
# frames which the store does not have.
UPLOAD_LOCK_SECONDS = 600.0
CATCH_UP_LOCK_SECONDS = 0.5


def restore_upload_responses(record: SessionRecord, responses: IdempotencyCache) -> None:
    """Add the responses that other gateways gave to uploads."""
    for name, text in record.attributes.items():
        key = name.removeprefix(UPLOAD_ATTRIBUTE)
        if name.startswith(UPLOAD_ATTRIBUTE) and key not in responses:
            digest, response = map(bytes.fromhex, text.split("."))
            message = segmentation_pb2.AppendFramesResponse.FromString(response)
            responses.insert(KeyedResponse(key, digest, message))


def stored_upload_response(
    record: SessionRecord, config: segmentation_pb2.AppendFramesConfig
) -> segmentation_pb2.AppendFramesResponse | None:
    """The response that another gateway gave to the same upload; None if there is none.

    Raises Conflict if the key belongs to another upload.
    """
    text = record.attributes.get(f"{UPLOAD_ATTRIBUTE}{config.idempotency_key}")
    if not config.idempotency_key or text is None:
        return None
    digest, response = map(bytes.fromhex, text.split("."))
    if digest != request_digest(config):
        raise Conflict("the key belongs to another request", field="config.idempotency_key")
    return segmentation_pb2.AppendFramesResponse.FromString(response)


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
        self._unwritten: int | None = None
        """The first frame that could not be written."""
        self._unwritten_responses: dict[str, str] = {}

    async def publish(self) -> None:
        if self._frames.num_frames:
            await self._write(0)
            self._unwritten = None

    async def adopt(self, record: SessionRecord) -> None:
        # Without new frames the lock is not taken, because an upload may hold it for long.
        if _StoredFrames.of(record).num_frames > self._frames.num_frames:
            async with self._frames.adding:
                await self._read(record)
        elif self._unwritten is not None and not self._frames.adding.locked():
            with suppress(StoreDown, Conflict):  # the next call tries again
                async with (
                    self._frames.adding,
                    self._store.lock(self._session_id, wait_seconds=CATCH_UP_LOCK_SECONDS),
                ):
                    await self._write_rest()

    @asynccontextmanager
    async def upload_lock(self) -> AsyncIterator[SessionRecord | None]:
        record = None
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
            yield record

    async def replicate_upload(
        self,
        first: int,
        config: segmentation_pb2.AppendFramesConfig,
        response: segmentation_pb2.AppendFramesResponse,
    ) -> None:
        self._unwritten = first if self._unwritten is None else min(first, self._unwritten)
        if config.idempotency_key:
            text = f"{request_digest(config).hex()}.{response.SerializeToString().hex()}"
            self._unwritten_responses[f"{UPLOAD_ATTRIBUTE}{config.idempotency_key}"] = text
        try:
            await self._write_rest()
        except StoreDown as error:
            logger.warning("frames of session %s are at this gateway only: %s", self._session_id, error)

    async def _write_rest(self) -> None:
        """Write what could not be written before.  Raises StoreDown."""
        if self._unwritten is None:
            return
        await self._write(self._unwritten)
        if self._unwritten_responses:
            await self._store.put_frames(self._session_id, {}, self._unwritten_responses)
        self._unwritten, self._unwritten_responses = None, {}

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
                        await frames.on_thread(addition.add_frame, unpack_image(data))
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
                yield f"image.{index}", await asyncio.to_thread(pack_image, await reader.read(index))
        finally:
            reader.close()
