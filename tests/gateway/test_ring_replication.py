"""Copies of a live stream's frames in the session store."""

import asyncio
from pathlib import Path
from typing import Any

from gateway.frames.frame_ring import FrameRing
from gateway.frames.ring_replication import RING_ATTRIBUTE, RingReplicator
from maskmesh.media.pictures import as_image
from maskmesh.storage.redis_store import RedisStore
from maskmesh.storage.session_record import Owner, SessionRecord
from maskmesh.storage.session_store import SessionStore
from tests.gateway.in_process import image
from tests.redis_server import needs_redis, running_redis


class SlowStore:
    """A store that answers when it is told to."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()

    async def get_frames(self, session_id: str, names: list[str]) -> list[bytes | None]:
        await self.answers.wait()
        return [None for _ in names]

    async def put_frames(self, *_: Any) -> None:
        """Takes every frame."""


async def test_a_slow_restore_does_not_undo_newer_frames() -> None:
    ring, store = FrameRing(), SlowStore()
    replicator = RingReplicator(store, "s", ring)  # type: ignore[arg-type]
    stored = "[3, 16, 8, 3, [], [[2, 2]]]"
    record = SessionRecord("s", Owner("tracker:1", 1), 60.0, {RING_ATTRIBUTE: stored})
    adopting = asyncio.ensure_future(replicator.adopt(record))
    await asyncio.sleep(0.01)
    for sequence in range(5):  # another call restored the ring, and its stream goes on
        ring.append(as_image(image(sequence)), sequence)
    store.answers.set()
    await adopting
    await replicator.close()
    assert ring.num_frames == 5


@needs_redis
async def test_frames_expire_with_their_session(tmp_path: Path) -> None:
    async with running_redis(tmp_path) as server, server.client() as redis:
        store = RedisStore(server.url, name="session store", timeout_seconds=5.0)
        sessions = SessionStore(store)
        await sessions.create(SessionRecord("s", Owner("tracker:1", 1), 30.0))
        await sessions.put_frames("s", {"image.0": b"x"}, {})
        [frames] = [name async for name in redis.scan_iter("*frames*")]
        [session] = [name async for name in redis.scan_iter("*session*") if name != frames]
        assert 0 < await redis.pttl(frames) <= await redis.pttl(session) + 100
        await sessions.renew("s", 90.0)
        await sessions.put_frames("s", {"image.1": b"x"}, {})
        assert await redis.pttl(frames) > 60_000, "a renewal holds for both"
        await store.close()
