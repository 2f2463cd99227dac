"""Replication of the last frames of live streams to the session store."""

import asyncio
import json
from collections.abc import Mapping

from gateway.frames.frame_replication import FrameReplicator, pack_image, unpack_image
from gateway.frames.frame_ring import FrameRing, KeptFrame, RingState
from maskmesh.aio import stop
from maskmesh.storage.redis_store import PAUSE_SECONDS, StoreDown
from maskmesh.storage.session_record import SessionRecord
from maskmesh.storage.session_store import SessionStore

# The attribute of a session in the store.
RING_ATTRIBUTE = "ring"


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
                index: KeptFrame(unpack_image(data), sequence)
                for (index, sequence), data in zip(state.kept, fields, strict=True)
                if data is not None
            },
        )
        return [index for index, _ in state.kept]


def _pack_all(frames: Mapping[int, KeptFrame]) -> dict[str, bytes]:
    return {f"ring.{index}": pack_image(frame.image) for index, frame in frames.items()}
