"""Sessions in a store that gateways and trackers share: who owns each, and what it was when it was kept last.

A session is a few keys of one hash slot:

    maskmesh:1:{ID}:session   hash: owner's address and epoch, lease, frames, whatever gateways note
    maskmesh:1:{ID}:snapshot  the session without what is in the next
    maskmesh:1:{ID}:states    hash: states of objects on frames, and answers to keyed calls
    maskmesh:1:{ID}:frames    hash: the session's frames as they came

All of them expire with the lease.  Of a session that was deleted the first stays as long, and says so.

The epoch counts the owners: it is compared in the same step in which
anything of a snapshot is written, so that who owned the session before changes nothing any more.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple, TypeAlias, cast

from redis.asyncio import Redis
from redis.asyncio.lock import Lock
from redis.exceptions import RedisError

from maskmesh.errors import Conflict, StaleEpoch
from maskmesh.storage.redis_store import RedisStore, stop, texts

PREFIX = "maskmesh:1"
PARTS = ("session", "snapshot", "states", "frames")

# Somebody who does something alone says so again three times in this.
LOCK_SECONDS = 6.0
LOCK_PAUSE_SECONDS = 0.2

# Noted in place of everything else when a session is deleted.
ENDED = "ended"

# A lease in the store is renewed no more often than this, and ends later by as much.
RENEWAL_SECONDS = 10.0


_Fields: TypeAlias = Mapping[Any, Any]
"""As the client of the protocol wants it, which knows more types than are used here."""


class Owner(NamedTuple):
    """The tracker that has a session, and the how manieth owner it is, from 1."""

    address: str
    epoch: int


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """What gateways know of a session."""

    session_id: str
    owner: Owner
    ttl_seconds: float
    notes: Mapping[str, str] = field(default_factory=dict)
    """What gateways note of it for one another."""

    @property
    def has_ended(self) -> bool:
        """Whether it was deleted."""
        return ENDED in self.notes


class Change(NamedTuple):
    """What is written of a session at once."""

    snapshot: bytes
    fields: Mapping[str, bytes]
    """States and answers to set, by name."""
    deleted: Sequence[str] = ()
    """Names of those that are no more."""
    is_whole: bool = False
    """Whether it is all of the session, in place of what was there."""


class StoredSession(NamedTuple):
    """A session as it was kept."""

    snapshot: bytes
    fields: Mapping[str, bytes]


class WriteResult(Enum):
    """What became of a write."""

    DONE = 0
    STALE = 1
    """Somebody else owns the session now: nothing was written."""
    ABSENT = 2
    """The store has lost the session: what was to be added to is not there."""


_MOVE = """
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not epoch then return false end
if epoch == ARGV[1] then
  redis.call('HSET', KEYS[1], 'epoch', ARGV[1] + 1, 'address', ARGV[2])
end
return redis.call('HMGET', KEYS[1], 'address', 'epoch')
"""

# KEYS: session, snapshot, states.  ARGV: epoch, address, milliseconds, whether all is written anew, snapshot,
# number of fields to delete, these, then fields and values to set.
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
    """The sessions of a store.  Every method raises StoreDown where it does not answer."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._move_script = store.script(_MOVE)
        self._write_script = store.script(_WRITE)

    # What gateways do.

    async def create(self, record: SessionRecord) -> None:
        """Begin a session."""
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
        """What gateways know of a session, None where there is none."""
        key = _key(session_id, "session")
        fields = texts(await self._store.run(lambda redis: redis.hgetall(key)))
        if ENDED in fields:
            return SessionRecord(session_id, Owner("", 0), 0.0, fields)
        if "ttl" not in fields:
            return None
        owner = Owner(fields.pop("address"), int(fields.pop("epoch")))
        return SessionRecord(session_id, owner, float(fields.pop("ttl")), fields)

    async def renew(self, session_id: str, ttl_seconds: float) -> None:
        """Begin the lease anew."""

        async def begin(redis: Redis) -> None:
            async with redis.pipeline(transaction=False) as steps:
                for part in PARTS:
                    steps.pexpire(_key(session_id, part), _lease(ttl_seconds))
                await steps.execute()

        await self._store.run(begin)

    async def lease_left(self, session_id: str) -> float:
        """The seconds until the store forgets a session, 0 where it has."""
        key = _key(session_id, "session")
        milliseconds = await self._store.run(lambda redis: redis.pttl(key))
        return max(int(milliseconds), 0) / 1000

    async def move(self, session_id: str, owner: Owner, address: str) -> Owner | None:
        """Give a session that ``owner`` has to the tracker at ``address``.

        Returns who owns it now: another one where somebody else moved it before; None where there is none.
        """
        found = await self._store.run(
            lambda redis: self._move_script(
                keys=[_key(session_id, "session")], args=[owner.epoch, address], client=redis
            )
        )
        return None if found is None else Owner(found[0].decode(), int(found[1]))

    async def delete(self, session_id: str, ttl_seconds: float, reason: str = "") -> None:
        """End a session; ``reason`` is noted for as long as it might have been used."""
        keys = [_key(session_id, part) for part in PARTS]

        async def end(redis: Redis) -> None:
            async with redis.pipeline(transaction=True) as steps:
                steps.unlink(*keys)
                steps.hset(keys[0], ENDED, reason)
                steps.pexpire(keys[0], _lease(ttl_seconds))
                await steps.execute()

        await self._store.run(end)

    async def claim(self, name: str, value: str, seconds: float) -> str:
        """What ``name`` stands for: ``value``, or what somebody else claimed for it before."""
        key = f"{PREFIX}:{name}"

        async def take(redis: Redis) -> bytes | None:
            return cast(
                bytes | None, await redis.set(key, value, px=math.ceil(seconds * 1000), nx=True, get=True)
            )

        found = await self._store.run(take)
        return value if found is None else found.decode()

    @asynccontextmanager
    async def alone(self, session_id: str, *, patience_seconds: float) -> AsyncIterator[None]:
        """Do what only one gateway at a time does with a session.

        Raises Conflict where another one has been at it for ``patience_seconds``.
        """
        ending = time.monotonic() + patience_seconds

        async def take(redis: Redis) -> Lock | None:
            lock = redis.lock(_key(session_id, "lock"), timeout=LOCK_SECONDS, blocking=False)
            return lock if await lock.acquire() else None

        while (lock := await self._store.run(take)) is None:
            if time.monotonic() >= ending:
                raise Conflict("another call does the same", session_id=session_id)
            await asyncio.sleep(LOCK_PAUSE_SECONDS)
        # Whoever dies with it holds it for some seconds only.
        keeping = asyncio.ensure_future(_keep(lock))
        try:
            yield
        finally:
            await stop(keeping)
            with contextlib.suppress(RedisError, OSError):  # it was lost, or the store is down
                await lock.release()

    # The frames of a session, in fields.

    async def put_frames(
        self, session_id: str, fields: Mapping[str, bytes], notes: Mapping[str, str]
    ) -> None:
        """Add fields to a session's frames, and note what they are."""
        key, frames = _key(session_id, "session"), _key(session_id, "frames")

        async def put(redis: Redis) -> None:
            async with redis.pipeline(transaction=True) as steps:
                if fields:
                    steps.hset(frames, mapping=cast(_Fields, fields))
                if notes:
                    steps.hset(key, mapping=cast(_Fields, notes))
                await steps.execute()

        await self._store.run(put)

    async def get_frames(self, session_id: str, names: Sequence[str]) -> list[bytes | None]:
        """Fields of a session's frames."""
        key = _key(session_id, "frames")
        return cast(list[bytes | None], await self._store.run(lambda redis: redis.hmget(key, list(names))))

    async def drop_frames(self, session_id: str, names: Sequence[str]) -> None:
        """Forget fields of a session's frames."""
        key = _key(session_id, "frames")
        await self._store.run(lambda redis: redis.hdel(key, *names))

    # What trackers do.

    async def epoch(self, session_id: str) -> int | None:
        """The epoch of a session, None where the store does not have it."""
        key = _key(session_id, "session")
        found = await self._store.run(lambda redis: redis.hget(key, "epoch"))
        return None if found is None else int(found)

    async def write(self, session_id: str, owner: Owner, ttl_seconds: float, change: Change) -> WriteResult:
        """Write what changed of a session, all in one step."""
        keys = [_key(session_id, part) for part in PARTS[:3]]
        arguments: list[str | int | bytes] = [owner.epoch, owner.address, _lease(ttl_seconds)]
        arguments += [int(change.is_whole), change.snapshot, len(change.deleted), *change.deleted]
        for name, content in change.fields.items():
            arguments += [name, content]
        done = await self._store.run(
            lambda redis: self._write_script(keys=keys, args=arguments, client=redis)
        )
        return WriteResult(int(done))

    async def read(self, session_id: str, epoch: int) -> StoredSession | None:
        """A session as it was kept last, None where nothing was kept.

        Raises StaleEpoch where it has another owner than the one of ``epoch``.
        """
        session, snapshot, states = (_key(session_id, part) for part in PARTS[:3])

        async def get(redis: Redis) -> list[Any]:
            async with redis.pipeline(transaction=True) as steps:
                steps.hget(session, "epoch")
                steps.get(snapshot)
                steps.hgetall(states)
                found: list[Any] = await steps.execute()
                return found

        found, kept, fields = await self._store.run(get)
        if found is None or kept is None:
            return None
        if int(found) != epoch:
            raise StaleEpoch("the session has another owner", session_id=session_id, epoch=int(found))
        return StoredSession(kept, {name.decode(): state for name, state in fields.items()})


async def _keep(lock: Lock) -> None:
    while True:
        await asyncio.sleep(LOCK_SECONDS / 3)
        with contextlib.suppress(RedisError, OSError):
            await lock.reacquire()


def _key(session_id: str, part: str) -> str:
    return f"{PREFIX}:{{{session_id}}}:{part}"


def _lease(ttl_seconds: float) -> int:
    """Milliseconds after which the store forgets."""
    return math.ceil((ttl_seconds + RENEWAL_SECONDS) * 1000)
