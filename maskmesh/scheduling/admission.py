"""Admission to the queues of a service: priorities, fair shares of tenants, limits and retry hints."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from maskmesh.errors import ResourceExhausted


class Priority(IntEnum):
    """Priority of an entry; lower values go first."""

    INTERACTIVE = 0
    """A person waits for the result."""
    AHEAD = 1
    """Read-ahead of a stream."""


_entry_numbers = itertools.count()

# Bounds of a retry hint in seconds, and its relative jitter, so that refused callers do not return together.
MIN_RETRY_SECONDS = 0.1
MAX_RETRY_SECONDS = 10.0
RETRY_JITTER = 0.5

# Retry hints of limits that say nothing about when they pass: calls of a server, open sessions.
CALL_SECONDS = 1.0
SESSION_SECONDS = 5.0

# After this many interactive entries in a row, one read-ahead entry is served to its end, so that read-ahead
# never starves.
MAX_CONSECUTIVE_INTERACTIVE = 4

# Tenants whose last service is remembered.
MAX_TENANTS = 1024


def retry_after(seconds: float, *, is_exact: bool = False) -> float:
    """The seconds after which a refused caller should retry, given when capacity is expected.

    The hint is spread by ``RETRY_JITTER`` and bounded, unless the time is exact, as that of a rate limit.
    """
    if is_exact:
        return seconds
    spread = seconds * random.uniform(1 - RETRY_JITTER, 1 + RETRY_JITTER)
    return min(max(spread, MIN_RETRY_SECONDS), MAX_RETRY_SECONDS)


@dataclass(slots=True)
class QueueEntry:
    """One piece of work in the queues that it passes through."""

    priority: Priority = Priority.INTERACTIVE
    tenant: str = ""
    number: int = field(default_factory=lambda: next(_entry_numbers))
    """Order of arrival."""
    on_promoted: Callable[[], None] = field(default=lambda: None, compare=False, repr=False)
    """Called after the priority was raised; set by the queue in which the entry waits."""

    def promote(self, priority: Priority) -> None:
        """Raise the entry's priority to ``priority``; never lower it."""
        if priority < self.priority:
            self.priority = priority
            self.on_promoted()


class FairScheduler:
    """The order of a queue: interactive entries first, then the tenant that was served least recently.

    So tenants get equal shares of the device, however many requests each of them sends.
    """

    def __init__(self) -> None:
        self._last_served: dict[str, int] = {}
        self._count = itertools.count(1)
        self._consecutive_interactive = 0

    @property
    def may_preempt(self) -> bool:
        """Whether interactive entries go before read-ahead now."""
        return self._consecutive_interactive < MAX_CONSECUTIVE_INTERACTIVE

    def sort_key(self, entry: QueueEntry) -> tuple[int, int, int]:
        """The key that a queue is sorted by; the lowest goes next."""
        rank = entry.priority if self.may_preempt else -entry.priority
        return rank, self._last_served.get(entry.tenant, 0), entry.number

    def note_served(self, *entries: QueueEntry, preempted: bool) -> None:
        """Note that a batch was served; ``preempted`` is whether read-ahead was waiting."""
        is_interactive = entries[0].priority is Priority.INTERACTIVE
        self._consecutive_interactive = (
            self._consecutive_interactive + 1 if is_interactive and preempted else 0
        )
        for tenant in dict.fromkeys(entry.tenant for entry in entries):
            self._last_served.pop(tenant, None)
            self._last_served[tenant] = next(self._count)
        while len(self._last_served) > MAX_TENANTS:
            del self._last_served[next(iter(self._last_served))]


@dataclass(frozen=True, slots=True)
class AdmissionPolicy:
    """How many entries of each priority a queue admits."""

    interactive: int = 256
    ahead: int = 256

    def check(
        self,
        entry: QueueEntry,
        *,
        queued: Sequence[QueueEntry],
        running: Sequence[QueueEntry] = (),
        seconds_each: float,
    ) -> None:
        """Raises ResourceExhausted if the queue has no slot for ``entry``.

        For interactive work the limit counts both queued and running entries, because a new request waits for
        both.  Its slots are divided equally among the tenants that are waiting; a single tenant may use them
        all. For read-ahead the limit counts queued entries only, of all tenants: sessions bound it elsewhere.
        ``seconds_each`` is the mean service time, from which the retry hint is computed.
        """
        if entry.priority is Priority.INTERACTIVE:
            tenants = [e.tenant for e in (*running, *queued) if e.priority is Priority.INTERACTIVE]
            share = self.interactive // len({*tenants, entry.tenant})
            is_admitted = tenants.count(entry.tenant) < max(share, 1)
        else:
            tenants = [e.tenant for e in queued if e.priority is entry.priority]
            is_admitted = len(tenants) < self.ahead
        if not is_admitted:
            raise ResourceExhausted(
                "the queue is full", resource="queue", retry_seconds=retry_after(len(tenants) * seconds_each)
            )


class PrioritySemaphore:
    """A semaphore whose slots are granted in the order of a :class:`FairScheduler`.

    ``slots`` are for all entries; ``reserved`` further ones are for interactive entries while read-ahead
    holds the others.  ``policy`` bounds the entries, ``seconds_each`` returns their mean service time.  Used
    on one event loop only.
    """

    def __init__(
        self, slots: int, *, reserved: int, policy: AdmissionPolicy, seconds_each: Callable[[], float]
    ) -> None:
        self._slots = slots
        self._reserved = reserved
        self._policy = policy
        self._seconds_each = seconds_each
        self._scheduler = FairScheduler()
        self._running: list[QueueEntry] = []
        self._running_interactive = 0
        self._queued: list[tuple[QueueEntry, asyncio.Future[Priority]]] = []

    @property
    def num_queued(self) -> int:
        """Entries that wait for a slot."""
        return len(self._queued)

    def check(self, entry: QueueEntry) -> None:
        """Raises ResourceExhausted if :meth:`acquire` would refuse the entry now."""
        queued = [e for e, _ in self._queued]
        self._policy.check(entry, queued=queued, running=self._running, seconds_each=self._seconds_each())

    @contextlib.asynccontextmanager
    async def acquire(self, entry: QueueEntry) -> AsyncIterator[None]:
        """Hold a slot.  Raises ResourceExhausted if the policy refuses the entry."""
        self.check(entry)
        if self._queued or not self._has_slot(entry):
            granted: asyncio.Future[Priority] = asyncio.get_running_loop().create_future()
            self._queued.append((entry, granted))
            entry.on_promoted = self._grant_slots  # an interactive entry may take a reserved slot
            self._grant_slots()
            try:
                priority = await granted
            except asyncio.CancelledError:
                if granted.done() and not granted.cancelled():
                    self._release(entry, granted.result())
                elif (entry, granted) in self._queued:
                    self._queued.remove((entry, granted))
                raise
        else:
            priority = self._grant(entry)
        try:
            yield
        finally:
            self._release(entry, priority)

    def _has_slot(self, entry: QueueEntry) -> bool:
        if len(self._running) < self._slots:
            return True
        return entry.priority is Priority.INTERACTIVE and self._running_interactive < self._reserved

    def _grant(self, entry: QueueEntry) -> Priority:
        """Returns the priority at which the slot was granted: the entry may be promoted while it holds it."""
        preempted = any(other.priority > entry.priority for other, _ in self._queued)
        self._scheduler.note_served(entry, preempted=preempted)
        self._running.append(entry)
        self._running_interactive += entry.priority is Priority.INTERACTIVE
        return entry.priority

    def _release(self, entry: QueueEntry, granted: Priority) -> None:
        self._running.remove(entry)
        self._running_interactive -= granted is Priority.INTERACTIVE
        self._grant_slots()

    def _grant_slots(self) -> None:
        while self._queued:
            best = min(self._queued, key=lambda q: self._scheduler.sort_key(q[0]))
            if not self._has_slot(best[0]):
                return
            self._queued.remove(best)
            if not best[1].done():
                best[1].set_result(self._grant(best[0]))
