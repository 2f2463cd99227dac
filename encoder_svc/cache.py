"""The embedding cache: bounded in bytes, least recently used first, pinned while somebody works with it."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from opentelemetry.trace import SpanContext

from maskmesh.errors import EmbeddingNotFound, ResourceExhausted
from maskmesh.scheduling.admission import QueueEntry
from maskmesh.storage.shared_memory import Block
from maskmesh.types import TensorSpec


class CacheKey(NamedTuple):
    """What one embedding is kept under."""

    tenant: str
    model_id: str
    digest: str


class Outcome(StrEnum):
    """What a request found."""

    HIT = "hit"
    MISS = "miss"
    JOINED = "joined"
    SHARED_HIT = "shared_hit"


class Pin(NamedTuple):
    """Keeps an entry for its owner until it expires."""

    owner: str
    ttl_seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """One image's embedding on the host: tensors one after the other in one buffer."""

    tensors: Sequence[TensorSpec]
    data: memoryview
    image_width: int
    image_height: int
    filled_by: SpanContext | None = None
    """The span that computed it."""
    block: Block | None = None
    """Where the buffer is in shared memory, if it is."""


@dataclass(slots=True)
class Statistics:
    """Counters since the start."""

    hits: int = 0
    misses: int = 0
    joined: int = 0
    evictions: int = 0


@dataclass(slots=True)
class _Entry:
    embedding: Embedding
    pins: dict[str, float] = field(default_factory=dict)  # owner -> expiry, monotonic seconds

    def has_pins(self, now: float) -> bool:
        """What :meth:`is_pinned` says, and nothing is changed."""
        return any(expiry > now for expiry in list(self.pins.values()))

    def is_pinned(self, now: float) -> bool:
        """Whether somebody holds it; who had it for long enough does not any more."""
        for owner in [o for o, expiry in self.pins.items() if expiry <= now]:
            del self.pins[owner]
        return bool(self.pins)


@dataclass(slots=True)
class _Flight:
    """One embedding that is being made, and who waits for it."""

    task: "asyncio.Task[Embedding]"
    ticket: QueueEntry
    waiters: int = 0
    pins: dict[str, float] = field(default_factory=dict)


class EmbeddingCache:
    """Embeddings by key.

    Entries and work under way together never exceed ``budget_bytes``: room is made before the work
    starts, by evicting what was used longest ago and is not pinned.  Where everything is pinned the work
    waits for ``wait_seconds`` and is then refused.  However many ask for one key, it is made once, and
    not at all if all of them leave.  Used on one event loop only.
    """

    def __init__(self, budget_bytes: int, *, wait_seconds: float = 10.0) -> None:
        self.budget_bytes = budget_bytes
        self.statistics = Statistics()
        self._wait_seconds = wait_seconds
        self._entries: OrderedDict[CacheKey, _Entry] = OrderedDict()
        self._flights: dict[CacheKey, _Flight] = {}
        self._used_bytes = 0  # by entries, and reserved by flights
        self._room = asyncio.Condition()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def num_bytes(self) -> int:
        """Bytes of the entries; may be asked from any thread."""
        return sum(len(e.embedding.data) for e in list(self._entries.values()))

    @property
    def pinned_bytes(self) -> int:
        """Bytes of the entries that are pinned; may be asked from any thread."""
        now = time.monotonic()
        entries = list(self._entries.values())
        return sum(len(e.embedding.data) for e in entries if e.has_pins(now))

    def get(self, key: CacheKey) -> Embedding:
        """Read an entry, which makes it the most recently used.  Raises EmbeddingNotFound."""
        entry = self._entries.get(key)
        if entry is None:
            raise EmbeddingNotFound("the embedding is not in the cache", key=key.digest)
        self._entries.move_to_end(key)
        return entry.embedding

    def hit(self, key: CacheKey, pin: Pin | None = None) -> Embedding | None:
        """The entry, counted as a hit and pinned if asked; None if there is none."""
        if key not in self._entries:
            return None
        self.statistics.hits += 1
        if pin is not None:
            self._entries[key].pins[pin.owner] = time.monotonic() + pin.ttl_seconds
        return self.get(key)

    def is_under_way(self, key: CacheKey) -> bool:
        """Whether an entry is being made."""
        return key in self._flights

    async def get_or_create(
        self,
        key: CacheKey,
        size: int,
        create: Callable[[], Awaitable[Embedding]],
        pin: Pin | None = None,
        ticket: QueueEntry | None = None,
        *,
        counts: bool = True,
    ) -> tuple[Embedding, Outcome]:
        """The entry, made by ``create`` if need be; ``size`` is how many bytes it will have.

        ``ticket`` is the place of ``create``'s work in the device's queue: who joins it with a better
        one takes it forward.  ``counts`` is whether the work is counted as a miss.
        Raises ResourceExhausted where there is no room, and whatever ``create`` raises.
        """
        found = self.hit(key, pin)
        if found is not None:
            return found, Outcome.HIT
        flight = self._flights.get(key)
        outcome = Outcome.JOINED if flight else Outcome.MISS
        if flight is None:
            work = asyncio.ensure_future(self._fill(key, size, create))
            flight = _Flight(work, ticket or QueueEntry())
            self._flights[key] = flight
            self.statistics.misses += counts
        else:
            self.statistics.joined += 1
        if pin is not None:
            flight.pins[pin.owner] = time.monotonic() + pin.ttl_seconds
        if ticket is not None:
            flight.ticket.promote(ticket.priority)
        flight.waiters += 1
        try:
            return await asyncio.shield(flight.task), outcome
        except asyncio.CancelledError:
            if pin is not None:  # who has left needs nothing; others may wait for the same
                flight.pins.pop(pin.owner, None)
            raise
        finally:
            flight.waiters -= 1
            if not flight.waiters and not flight.task.done():
                flight.task.cancel()
                self._forget(key, flight)

    async def unpin(self, owner: str, keys: Sequence[CacheKey] = ()) -> int:
        """Release pins of ``owner``, all of them where no keys are given; returns how many there were.

        Work that is under way leaves none either.
        """
        released = 0
        for key in keys or list(self._flights):
            if key in self._flights:
                self._flights[key].pins.pop(owner, None)
        for key in keys or list(self._entries):
            entry = self._entries.get(key)
            if entry is not None and entry.pins.pop(owner, None) is not None:
                released += 1
        async with self._room:
            self._room.notify_all()
        return released

    async def _fill(self, key: CacheKey, size: int, create: Callable[[], Awaitable[Embedding]]) -> Embedding:
        flight = self._flights[key]
        try:
            await self._reserve(size)
            try:
                embedding = await create()
                if len(embedding.data) != size:
                    raise AssertionError(f"an embedding has {len(embedding.data)} bytes, not {size}")
                self._entries[key] = _Entry(embedding, flight.pins)
            except BaseException:
                self._used_bytes -= size
                raise
        finally:
            self._forget(key, flight)
            async with self._room:
                self._room.notify_all()
        return embedding

    def _forget(self, key: CacheKey, flight: _Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]

    async def _reserve(self, size: int) -> None:
        deadline = time.monotonic() + self._wait_seconds
        while not self._make_room(size):
            now = time.monotonic()
            if now >= deadline or size > self.budget_bytes:
                raise ResourceExhausted("the embedding cache has no room", resource="cache")
            # Pins also expire by themselves, and nobody tells.
            expiries = [expiry for e in self._entries.values() for expiry in e.pins.values()]
            until = min([deadline, *expiries]) - now
            async with self._room:
                try:
                    await asyncio.wait_for(self._room.wait(), max(until, 0.001))
                except TimeoutError:
                    pass
        self._used_bytes += size

    def _make_room(self, size: int) -> bool:
        now = time.monotonic()
        for key in list(self._entries):
            if self._used_bytes + size <= self.budget_bytes:
                break
            if not self._entries[key].is_pinned(now):
                self._used_bytes -= len(self._entries.pop(key).embedding.data)
                self.statistics.evictions += 1
        return self._used_bytes + size <= self.budget_bytes
