"""The embedding cache of one encoder: bounded in bytes, with pins, evicting the least recently used."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from opentelemetry.trace import SpanContext

from maskmesh.aio import SingleFlight
from maskmesh.embedding_key import EmbeddingKey
from maskmesh.errors import EmbeddingNotFound, ResourceExhausted
from maskmesh.scheduling.admission import QueueEntry
from maskmesh.types import Block, TensorSpec


class Outcome(StrEnum):
    """The outcome of a lookup."""

    HIT = "hit"
    MISS = "miss"
    JOINED = "joined"
    SHARED_HIT = "shared_hit"


class Pin(NamedTuple):
    """Protects an entry from eviction until the pin expires or its owner releases it."""

    owner: str
    ttl_seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """The embedding of one image on the host: all tensors in one buffer, without gaps."""

    tensors: Sequence[TensorSpec]
    data: memoryview
    image_width: int
    image_height: int
    filled_by: SpanContext | None = None
    """The span that computed it."""
    block: Block | None = None
    """The block of shared memory that contains ``data``; None if ``data`` is not in shared memory."""


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
        """Whether the entry is pinned; may be called on any thread."""
        return any(expiry > now for expiry in list(self.pins.values()))

    def is_pinned(self, now: float) -> bool:
        """Whether the entry is pinned; removes expired pins."""
        for owner in [o for o, expiry in self.pins.items() if expiry <= now]:
            del self.pins[owner]
        return bool(self.pins)


@dataclass(slots=True, eq=False)
class _Fill:
    """A fill in progress: the queue entry of its encode, and the pins that its cache entry will have."""

    queue_entry: QueueEntry
    pins: dict[str, float] = field(default_factory=dict)


class EmbeddingCache:
    """Embeddings by key.

    Entries and fills in progress together never exceed ``budget_bytes``: before a fill begins, the least
    recently used entries that are not pinned are evicted to make room.  If the remaining entries are
    pinned, the fill waits up to ``wait_seconds`` and is then refused.  Concurrent requests for one key
    share one fill, which is cancelled if all of them are cancelled.  Used on one event loop only.
    """

    def __init__(self, budget_bytes: int, *, wait_seconds: float = 10.0) -> None:
        self.budget_bytes = budget_bytes
        self.statistics = Statistics()
        self._wait_seconds = wait_seconds
        self._entries: OrderedDict[EmbeddingKey, _Entry] = OrderedDict()
        self._fills: dict[EmbeddingKey, _Fill] = {}
        self._flights: SingleFlight[EmbeddingKey, Embedding] = SingleFlight(
            cancel_abandoned=True, on_end=lambda key: self._fills.pop(key, None)
        )
        self._used_bytes = 0  # by entries and fills in progress
        self._room = asyncio.Condition()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def num_bytes(self) -> int:
        """Bytes of the entries; may be read on any thread."""
        return sum(len(e.embedding.data) for e in list(self._entries.values()))

    @property
    def pinned_bytes(self) -> int:
        """Bytes of the entries that are pinned; may be read on any thread."""
        now = time.monotonic()
        entries = list(self._entries.values())
        return sum(len(e.embedding.data) for e in entries if e.has_pins(now))

    def get(self, key: EmbeddingKey) -> Embedding:
        """Read an entry, which makes it the most recently used.  Raises EmbeddingNotFound."""
        entry = self._entries.get(key)
        if entry is None:
            raise EmbeddingNotFound("the embedding is not in the cache", key=key.digest)
        self._entries.move_to_end(key)
        return entry.embedding

    def hit(self, key: EmbeddingKey, pin: Pin | None = None) -> Embedding | None:
        """Returns the entry, counts a hit and adds ``pin`` to the entry; None on a cache miss."""
        if key not in self._entries:
            return None
        self.statistics.hits += 1
        if pin is not None:
            self._entries[key].pins[pin.owner] = time.monotonic() + pin.ttl_seconds
        return self.get(key)

    def is_filling(self, key: EmbeddingKey) -> bool:
        """Whether a fill is in progress."""
        return key in self._flights

    async def get_or_create(
        self,
        key: EmbeddingKey,
        size: int,
        create: Callable[[], Awaitable[Embedding]],
        pin: Pin | None = None,
        queue_entry: QueueEntry | None = None,
        *,
        counts: bool = True,
    ) -> tuple[Embedding, Outcome]:
        """Returns the entry; on a cache miss, ``create`` makes its embedding, which must have ``size``
        bytes.

        ``queue_entry`` is the queue entry of ``create``; a request of higher priority that joins the fill
        promotes it.  ``counts`` is whether the fill is counted as a miss.  Raises ResourceExhausted if the
        cache has no room, and the errors of ``create``.
        """
        cached = self.hit(key, pin)
        if cached is not None:
            return cached, Outcome.HIT
        if key in self._flights:
            outcome, fill = Outcome.JOINED, self._fills[key]
            self.statistics.joined += 1
        else:
            outcome, fill = Outcome.MISS, _Fill(queue_entry or QueueEntry())
            self._fills[key] = fill
            self.statistics.misses += counts
        if pin is not None:
            fill.pins[pin.owner] = time.monotonic() + pin.ttl_seconds
        if queue_entry is not None:
            fill.queue_entry.promote(queue_entry.priority)
        try:
            return await self._flights.run(key, lambda: self._fill(key, size, create, fill)), outcome
        except asyncio.CancelledError:
            if pin is not None:  # this caller was cancelled; other callers may wait for the same fill
                fill.pins.pop(pin.owner, None)
            raise

    async def unpin(self, owner: str, keys: Sequence[EmbeddingKey] = ()) -> int:
        """Release the pins of ``owner`` on ``keys``, or all its pins; returns the number of entries
        released.

        Also removes the owner's pins from fills in progress, which are not counted.
        """
        released = 0
        for key in keys or list(self._fills):
            if key in self._fills and key not in self._entries:
                self._fills[key].pins.pop(owner, None)
        for key in keys or list(self._entries):
            entry = self._entries.get(key)
            if entry is not None and entry.pins.pop(owner, None) is not None:
                released += 1
        async with self._room:
            self._room.notify_all()
        return released

    async def _fill(
        self, key: EmbeddingKey, size: int, create: Callable[[], Awaitable[Embedding]], fill: _Fill
    ) -> Embedding:
        try:
            await self._reserve(size)
            try:
                embedding = await create()
                if len(embedding.data) != size:
                    raise AssertionError(f"an embedding has {len(embedding.data)} bytes, not {size}")
                self._entries[key] = _Entry(embedding, fill.pins)
            except BaseException:
                self._used_bytes -= size
                raise
        finally:
            async with self._room:
                self._room.notify_all()
        return embedding

    async def _reserve(self, size: int) -> None:
        deadline = time.monotonic() + self._wait_seconds
        while not self._make_room(size):
            now = time.monotonic()
            if now >= deadline or size > self.budget_bytes:
                raise ResourceExhausted("the embedding cache has no room", resource="cache")
            # The expiry of a pin notifies no waiter, so the wait ends when the next pin expires.
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
