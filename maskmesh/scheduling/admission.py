"""Places in the queues that a piece of work passes through: whose turn it is, and who finds no place."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from enum import IntEnum

from maskmesh.errors import ResourceExhausted


class Priority(IntEnum):
    """Order of a queue: lower goes first."""

    INTERACTIVE = 0
    AHEAD = 1


_order = itertools.count()

# What is told to who finds no place, in seconds; some more or less, or all would come back at once.
SHORTEST_HINT = 0.1
LONGEST_HINT = 10.0
HINT_SPREAD = 0.5

# So many urgent pieces of work in a row go before one that waits ahead of time, which then goes to its end:
# however much is asked for, what was begun comes to an end.
MAX_CONSECUTIVE_INTERACTIVE = 4

# Tenants whose last turn is remembered.
MAX_TENANTS = 1024


@dataclass(slots=True)
class QueueEntry:
    """A place in the queues that a piece of work passes through; it can be taken forward."""

    priority: Priority = Priority.INTERACTIVE
    tenant: str = ""
    """Whose work it is."""
    order: int = field(default_factory=lambda: next(_order))

    def promote(self, priority: Priority) -> None:
        """Take the work forward to ``priority``; never back."""
        self.priority = min(self.priority, priority)


class FairScheduler:
    """Whose turn it is in a queue: urgent work first, then whose tenant's turn was longest ago.

    So tenants have equal shares of what is worked on, however much of it each asks for.
    """

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._count = itertools.count(1)
        self._urgent_in_a_row = 0

    @property
    def may_preempt(self) -> bool:
        """Whether urgent work may go before other work now."""
        return self._urgent_in_a_row < MAX_CONSECUTIVE_INTERACTIVE

    def place(self, ticket: QueueEntry) -> tuple[int, int, int]:
        """What a queue sorts by; the lowest comes next."""
        rank = ticket.priority if self.may_preempt else -ticket.priority
        return rank, self._last.get(ticket.tenant, 0), ticket.order

    def took(self, *tickets: QueueEntry, passed_over: bool) -> None:
        """Note that work had its turn at once; ``passed_over`` is whether less urgent work has to wait."""
        is_urgent = tickets[0].priority is Priority.INTERACTIVE
        self._urgent_in_a_row = self._urgent_in_a_row + 1 if is_urgent and passed_over else 0
        for tenant in dict.fromkeys(ticket.tenant for ticket in tickets):
            self._last.pop(tenant, None)
            self._last[tenant] = next(self._count)
        while len(self._last) > MAX_TENANTS:
            del self._last[next(iter(self._last))]


@dataclass(frozen=True, slots=True)
class AdmissionPolicy:
    """How much there may be at once, for each priority."""

    interactive: int = 256
    ahead: int = 256

    def check(self, waiting: Iterable[QueueEntry], ticket: QueueEntry, seconds_each: float) -> None:
        """Raises ResourceExhausted where there is no place for ``ticket`` beside those that wait.

        Of the places for what a person waits for one tenant alone may have all, several as many each as come
        to them, so that one who asks for much takes none from the others.  What is done ahead has a bound
        only: sessions are limited elsewhere.  ``seconds_each`` is what a piece of work takes on the average.
        """
        tenants = [other.tenant for other in waiting if other.priority is ticket.priority]
        if ticket.priority is Priority.INTERACTIVE:
            share = self.interactive // len({*tenants, ticket.tenant})
            has_place = tenants.count(ticket.tenant) < max(share, 1)
        else:
            has_place = len(tenants) < self.ahead
        if has_place:
            return
        seconds = len(tenants) * seconds_each * random.uniform(1 - HINT_SPREAD, 1 + HINT_SPREAD)
        raise ResourceExhausted(
            "too much work is waiting",
            resource="queue",
            retry_seconds=min(max(seconds, SHORTEST_HINT), LONGEST_HINT),
        )


class PrioritySemaphore:
    """Lets so many pieces of work in at once, in the order of their tickets.

    ``slots`` are for all; where others have them, ``reserved`` more are for work that a person waits for.  Of
    that there is no more than ``limits`` say, inside and outside together, since all of it is in the way of
    who comes next; of what is done ahead so much waits outside.  Others are refused, and told when to come
    again by what ``seconds_each`` returns.  Used on one event loop only.
    """

    def __init__(
        self,
        slots: int,
        *,
        reserved: int,
        limits: AdmissionPolicy,
        seconds_each: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._slots = slots
        self._reserved = reserved
        self._limits = limits
        self._seconds_each = seconds_each
        self._turns = FairScheduler()
        self._inside: list[QueueEntry] = []
        self._urgent_inside = 0
        self._waiting: list[tuple[QueueEntry, asyncio.Future[Priority]]] = []

    @property
    def num_waiting(self) -> int:
        """How many wait outside."""
        return len(self._waiting)

    def check(self, ticket: QueueEntry) -> None:
        """Raises ResourceExhausted where there is too much of its kind for it to enter now."""
        waiting = [t for t, _ in self._waiting]
        if ticket.priority is Priority.INTERACTIVE:
            self._limits.check([*self._inside, *waiting], ticket, self._seconds_each())
        elif waiting or not self._has_room(ticket):
            self._limits.check(waiting, ticket, self._seconds_each())

    @contextlib.asynccontextmanager
    async def enter(self, ticket: QueueEntry) -> AsyncIterator[None]:
        """Hold a slot.  Raises ResourceExhausted where there is too much of its kind."""
        self.check(ticket)
        if self._waiting or not self._has_room(ticket):
            turn: asyncio.Future[Priority] = asyncio.get_running_loop().create_future()
            self._waiting.append((ticket, turn))
            self._admit()
            try:
                entered = await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._leave(ticket, turn.result())
                elif (ticket, turn) in self._waiting:  # else it was passed over already
                    self._waiting.remove((ticket, turn))
                raise
        else:
            entered = self._let_in(ticket)
        try:
            yield
        finally:
            self._leave(ticket, entered)

    def _has_room(self, ticket: QueueEntry) -> bool:
        if len(self._inside) < self._slots:
            return True
        return ticket.priority is Priority.INTERACTIVE and self._urgent_inside < self._reserved

    def _let_in(self, ticket: QueueEntry) -> Priority:
        """Returns the priority with which it came in: it may be taken forward inside."""
        passed_over = any(other.priority > ticket.priority for other, _ in self._waiting)
        self._turns.took(ticket, passed_over=passed_over)
        self._inside.append(ticket)
        self._urgent_inside += ticket.priority is Priority.INTERACTIVE
        return ticket.priority

    def _leave(self, ticket: QueueEntry, entered: Priority) -> None:
        self._inside.remove(ticket)
        self._urgent_inside -= entered is Priority.INTERACTIVE
        self._admit()

    def _admit(self) -> None:
        """Let in who may come in, the best ticket first."""
        while self._waiting:
            best = min(self._waiting, key=lambda w: self._turns.place(w[0]))
            if not self._has_room(best[0]):
                return
            self._waiting.remove(best)
            if not best[1].done():
                best[1].set_result(self._let_in(best[0]))
