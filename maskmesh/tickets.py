"""Places in the queues that a piece of work passes through."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import IntEnum

from maskmesh.errors import ResourceExhausted


class Priority(IntEnum):
    """Order of a queue: lower goes first, equals in order of arrival."""

    INTERACTIVE = 0
    AHEAD = 1


_order = itertools.count()


@dataclass(slots=True)
class Ticket:
    """A place in the queues that a piece of work passes through; it can be taken forward."""

    priority: Priority = Priority.INTERACTIVE
    order: int = field(default_factory=lambda: next(_order))

    def hurry(self, priority: Priority) -> None:
        """Take the work forward to ``priority``; never back."""
        self.priority = min(self.priority, priority)

    @property
    def place(self) -> tuple[Priority, int]:
        """What queues sort by."""
        return self.priority, self.order


class TicketGate:
    """Lets so many pieces of work in at once, in the order of their tickets.

    ``slots`` are for all, ``reserved`` more for work that a person waits for.  At most ``max_waiting`` wait
    outside; others are refused.  Used on one event loop only.
    """

    def __init__(self, slots: int, *, reserved: int, max_waiting: int) -> None:
        self._slots = slots
        self._reserved = reserved
        self._max_waiting = max_waiting
        self._inside = 0
        self._waiting: list[tuple[Ticket, asyncio.Future[None]]] = []

    @property
    def num_waiting(self) -> int:
        """How many wait outside."""
        return len(self._waiting)

    @contextlib.asynccontextmanager
    async def enter(self, ticket: Ticket) -> AsyncIterator[None]:
        """Hold a slot.  Raises ResourceExhausted where too many wait."""
        if self._waiting or not self._has_room(ticket):
            if len(self._waiting) >= self._max_waiting:
                raise ResourceExhausted("too much work is waiting", resource="queue")
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((ticket, turn))
            self._admit()
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._leave()
                elif (ticket, turn) in self._waiting:  # else it was passed over already
                    self._waiting.remove((ticket, turn))
                raise
        else:
            self._inside += 1
        try:
            yield
        finally:
            self._leave()

    def _has_room(self, ticket: Ticket) -> bool:
        extra = self._reserved if ticket.priority is Priority.INTERACTIVE else 0
        return self._inside < self._slots + extra

    def _leave(self) -> None:
        self._inside -= 1
        self._admit()

    def _admit(self) -> None:
        """Let in who may come in, the best ticket first."""
        while self._waiting:
            best = min(self._waiting, key=lambda w: w[0].place)
            if not self._has_room(best[0]):
                return
            self._waiting.remove(best)
            if not best[1].done():
                self._inside += 1
                best[1].set_result(None)
