"""Sessions in the store that gateways and trackers share: owner, frames and replicated state.

A session is a few keys of one hash slot:

    maskmesh:1:{ID}:session   hash: owner's address and epoch, lease, and attributes that gateways set
    maskmesh:1:{ID}:snapshot  the session without the states
    maskmesh:1:{ID}:states    hash: states of objects on frames, and responses by idempotency key
    maskmesh:1:{ID}:frames    hash: the session's frames in their original form

All of them expire with the lease.  The first key of a deleted session stays that long and marks the deletion.

The epoch is the ownership epoch.  The script that writes a snapshot compares it, so that an earlier owner
cannot overwrite the state of a later one.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, cast

from redis.asyncio import Redis
from redis.asyncio.lock import Lock
from redis.exceptions import RedisError

from maskmesh.aio import stop
from maskmesh.errors import Conflict, StaleEpoch
from maskmesh.storage.hash_fields import get_fields
from maskmesh.storage.redis_store import RedisStore, texts
from maskmesh.storage.session_record import (
    ENDED,
    Owner,
    SessionDelta,
    SessionRecord,
    StoredSession,
    WriteResult,
)

PREFIX = "maskmesh:1"
PARTS = ("session", "snapshot", "states", "frames")

# Lease of a lock; its holder renews it three times in this period.
LOCK_SECONDS = 6.0
LOCK_PAUSE_SECONDS = 0.2

# PTTL of a key that does not expire.
NO_EXPIRY = -1

# A lease in the store is renewed at most this often, and ends this much later.
RENEWAL_SECONDS = 10.0

_Fields: TypeAlias = Mapping[Any, Any]
"""A hash, as redis-py types it."""

_MOVE = """
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not epoch then return false end
if epoch == ARGV[1] then
  redis.call('HSET', KEYS[1], 'epoch', ARGV[1] + 1, 'address', ARGV[2])
end
return redis.call('HMGET', KEYS[1], 'address', 'epoch')
"""

# KEYS: session, snapshot, states.  ARGV: epoch, address, milliseconds, whether the write is full, snapshot,
# number of fields to delete, these fields, then fields and values to set.
_WRITE = """
if redis.call('HEXISTS', KEYS[1], 'ended') == 1 then return 1 end
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if epoch and tonumber(epoch) > tonumber(ARGV[1]) then return 1 end
if ARGV[4] == '1' then
  redis.call('DEL', KEYS[3])
elseif redis.call('EXISTS', KEYS[2]) == 0 then
  return 2
end
if not epoch or tonumber(epoch) < tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'address', ARGV[2])
end
redis.call('SET', KEYS[2], ARGV[5])
local deleted = tonumber(ARGV[6])
for i = 7, 6 + deleted do redis.call('HDEL', KEYS[3], ARGV[i]) end
for i = 7 + deleted, #ARGV, 2 do redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1]) end
for i = 1, 3 do redis.call('PEXPIRE', KEYS[i], ARGV[3]) end
return 0
"""


class SessionStore:
    """The sessions in a store.  Every method raises StoreDown while the store is down."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._move_script = store.script(_MOVE)
        self._write_script = store.script(_WRITE)

    # Used by gateways.

    async def create(self, record: SessionRecord) -> None:
        """Create a session."""
        key = _key(record.session_id, "session")
        fields = {
            **record.attributes,
            "address": record.owner.address,
            "epoch": str(record.owner.epoch),
            "ttl": repr(record.ttl_seconds),
        }

        async def begin(redis: Redis) -> None:
            async with redis.pipeline(transaction=True) as steps:
                steps.hset(key, mapping=cast(_Fields, fields))
                steps.pexpire(key, _lease(record.ttl_seconds))
                await steps.execute()

        await self._store.run(begin)

    async def get(self, session_id: str) -> SessionRecord | None:
        """The record of a session, None if there is none."""
        key = _key(session_id, "session")
        fields = texts(await self._store.run(lambda redis: redis.hgetall(key)))
        if ENDED in fields:
            return SessionRecord(session_id, Owner("", 0), 0.0, fields)
        if "ttl" not in fields:
            return None
        owner = Owner(fields.pop("address"), int(fields.pop("epoch")))
        return SessionRecord(session_id, owner, float(fields.pop("ttl")), fields)

    async def renew(self, session_id: str, ttl_seconds: float) -> None:
        """Renew the lease."""

        async def begin(redis: Redis) -> None:
            async with redis.pipeline(transaction=False) as steps:
                for part in PARTS:
                    steps.pexpire(_key(session_id, part), _lease(ttl_seconds))
                await steps.execute()

        await self._store.run(begin)

    async def lease_left(self, session_id: str) -> float:
        """The seconds until a session expires in the store, 0 if it has."""
        key = _key(session_id, "session")
        milliseconds = await self._store.run(lambda redis: redis.pttl(key))
        return max(int(milliseconds), 0) / 1000

    async def move(self, session_id: str, owner: Owner, address: str) -> Owner | None:
        """Move a session from ``owner`` to the tracker at ``address``.

        Returns the present owner, which is another one if another gateway was faster; None if there is no
        session.
        """
        values = await self._store.run(
            lambda redis: self._move_script(
                keys=[_key(session_id, "session")], args=[owner.epoch, address], client=redis
            )
        )
        return None if values is None else Owner(values[0].decode(), int(values[1]))

    async def delete(self, session_id: str, ttl_seconds: float, reason: str = "") -> None:
        """Delete a session; ``reason`` is stored for the rest of its lease."""
        keys = [_key(session_id, part) for part in PARTS]

        async def end(redis: Redis) -> None:
            async with redis.pipeline(transaction=True) as steps:
                steps.unlink(*keys)
                steps.hset(keys[0], ENDED, reason)
                steps.pexpire(keys[0], _lease(ttl_seconds))
                await steps.execute()

        await self._store.run(end)

    async def claim(self, name: str, value: str, seconds: float) -> str:
        """Claim ``name`` for ``value``; returns the value that it was claimed for first."""
        key = f"{PREFIX}:{name}"

        async def take(redis: Redis) -> bytes | None:
            return cast(
                bytes | None, await redis.set(key, value, px=math.ceil(seconds * 1000), nx=True, get=True)
            )

        claimed = await self._store.run(take)
        return value if claimed is None else claimed.decode()

    @asynccontextmanager
    async def lock(self, session_id: str, *, wait_seconds: float) -> AsyncIterator[None]:
        """Hold the lock of a session.  Raises Conflict if another gateway holds it for ``wait_seconds``."""
        deadline = time.monotonic() + wait_seconds

        async def take(redis: Redis) -> Lock | None:
            lock = redis.lock(_key(session_id, "lock"), timeout=LOCK_SECONDS, blocking=False)
            return lock if await lock.acquire() else None

        while (lock := await self._store.run(take)) is None:
            if time.monotonic() >= deadline:
                raise Conflict("another upload to the session is in progress", session_id=session_id)
            await asyncio.sleep(LOCK_PAUSE_SECONDS)
        # The lock of a gateway that dies expires.
        renewal = asyncio.ensure_future(_renew(lock))
        try:
            yield
        finally:
            await stop(renewal)
            with contextlib.suppress(RedisError, OSError):  # it has expired, or the store is down
                await lock.release()

    # Frames, in fields of a hash.

    async def put_frames(
        self, session_id: str, fields: Mapping[str, bytes], attributes: Mapping[str, str]
    ) -> None:
        """Set fields of a session's frames, and attributes of the session.  The frames expire with it."""
        key, frames = _key(session_id, "session"), _key(session_id, "frames")

        async def put(redis: Redis) -> None:
            async with redis.pipeline(transaction=True) as steps:
                if fields:
                    steps.hset(frames, mapping=cast(_Fields, fields))
                if attributes:
                    steps.hset(key, mapping=cast(_Fields, attributes))
                steps.pttl(key)
                steps.pttl(frames)
                *_, lease, frames_lease = await steps.execute()
            # The first write makes the hash; renewals of the lease find it later.
            if lease > 0 and frames_lease == NO_EXPIRY:
                await redis.pexpire(frames, lease)

        await self._store.run(put, num_bytes=sum(map(len, fields.values())))

    async def get_frames(self, session_id: str, names: Sequence[str]) -> list[bytes | None]:
        """Fields of a session's frames."""
        return await get_fields(self._store, _key(session_id, "frames"), names)

    async def drop_frames(self, session_id: str, names: Sequence[str]) -> None:
        """Delete fields of a session's frames."""
        key = _key(session_id, "frames")
        await self._store.run(lambda redis: redis.hdel(key, *names))

    # Used by trackers.

    async def epoch(self, session_id: str) -> int | None:
        """The epoch of a session, None if the store does not have it."""
        key = _key(session_id, "session")
        epoch = await self._store.run(lambda redis: redis.hget(key, "epoch"))
        return None if epoch is None else int(epoch)

    async def write(
        self, session_id: str, owner: Owner, ttl_seconds: float, delta: SessionDelta
    ) -> WriteResult:
        """Apply a delta atomically."""
        keys = [_key(session_id, part) for part in PARTS[:3]]
        arguments: list[str | int | bytes] = [owner.epoch, owner.address, _lease(ttl_seconds)]
        arguments += [int(delta.is_full), delta.snapshot, len(delta.deleted), *delta.deleted]
        for name, content in delta.fields.items():
            arguments += [name, content]
        num_bytes = len(delta.snapshot) + sum(map(len, delta.fields.values()))
        result = await self._store.run(
            lambda redis: self._write_script(keys=keys, args=arguments, client=redis), num_bytes=num_bytes
        )
        return WriteResult(int(result))

    async def read(self, session_id: str, epoch: int) -> StoredSession | None:
        """The state of a session, None if nothing is stored.

        Its states are read in several steps; only the owner of ``epoch``, who reads, may write meanwhile.
        Raises StaleEpoch if its epoch is not ``epoch``.
        """
        session, snapshot, states = (_key(session_id, part) for part in PARTS[:3])

        async def begin(redis: Redis) -> list[Any]:
            async with redis.pipeline(transaction=True) as steps:
                steps.hget(session, "epoch")
                steps.get(snapshot)
                steps.hkeys(states)
                values: list[Any] = await steps.execute()
                return values

        stored_epoch, content, names = await self._store.run(begin)
        if stored_epoch is None or content is None:
            return None
        if int(stored_epoch) != epoch:
            raise StaleEpoch("the session has another owner", session_id=session_id, epoch=int(stored_epoch))
        fields = [name.decode() for name in names]
        values = await get_fields(self._store, states, fields)
        found = {name: value for name, value in zip(fields, values, strict=True) if value is not None}
        return StoredSession(content, found)


async def _renew(lock: Lock) -> None:
    while True:
        await asyncio.sleep(LOCK_SECONDS / 3)
        with contextlib.suppress(RedisError, OSError):
            await lock.reacquire()


def _key(session_id: str, part: str) -> str:
    return f"{PREFIX}:{{{session_id}}}:{part}"


def _lease(ttl_seconds: float) -> int:
    """Milliseconds after which the store drops the session."""
    return math.ceil((ttl_seconds + RENEWAL_SECONDS) * 1000)
