"""One thread that owns a device, and the order in which work reaches it."""

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from typing import Any, TypeVar

from maskmesh import telemetry
from maskmesh.errors import ResourceExhausted

T = TypeVar("T")


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


@dataclass(slots=True)
class _Job:
    ticket: Ticket
    run: Callable[[], None]


class DeviceWorker:
    """Runs functions one after the other on a thread of its own.

    The event loop never computes, and the device has one user.  Work whose caller has left is skipped.
    ``run`` is called on the event loop; functions run on the thread.
    """

    def __init__(self, name: str, *, max_queue: int = 256) -> None:
        self._max_queue = max_queue
        self._jobs: list[_Job] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def run(
        self,
        function: Callable[[], T],
        *,
        recorder: telemetry.StageRecorder | None = None,
        ticket: Ticket | None = None,
        since_ns: int | None = None,
        continues: bool = False,
    ) -> T:
        """Run ``function`` on the thread and return what it returns.

        A caller who is cancelled leaves at once where the work has not begun, which is then skipped, and
        else when it is over: whatever lock the caller holds is held for as long as the work runs.
        Waiting is recorded as ``queue`` stages: for the device, from ``since_ns`` where the work was ready
        earlier, and for the event loop to take the result.
        Raises ResourceExhausted at once where too much is waiting, unless the work ``continues`` what has
        begun and must not be left half done.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        submitted = since_ns or time.time_ns()
        begun, over = threading.Event(), asyncio.Event()

        def run() -> None:
            begun.set()
            if not future.cancelled():
                if recorder is not None:
                    recorder.add(telemetry.QUEUE, submitted, time.time_ns(), {telemetry.WAITS_FOR: "device"})
                try:
                    settle = partial(_settle, future, function(), None)
                except BaseException as error:
                    settle = partial(_settle, future, None, error)
                loop.call_soon_threadsafe(settle)
            loop.call_soon_threadsafe(over.set)

        with self._changed:
            if self._closed:
                raise RuntimeError("the worker is closed")
            if len(self._jobs) >= self._max_queue and not continues:
                raise ResourceExhausted("too much work is waiting", resource="queue")
            self._jobs.append(_Job(ticket or Ticket(), run))
            self._changed.notify()
        try:
            result = await future
        except asyncio.CancelledError:
            if begun.is_set():
                await over.wait()
            raise
        if recorder is not None:
            # The event loop has others to serve, and a computing device leaves it little time.
            ended_ns = recorder.records[-1].end_ns
            recorder.add(telemetry.QUEUE, ended_ns, time.time_ns(), {telemetry.WAITS_FOR: "event_loop"})
        return result

    def close(self) -> None:
        """Finish what runs, drop what waits."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._jobs and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                job = min(self._jobs, key=lambda j: j.ticket.place)
                self._jobs.remove(job)
            job.run()
            del job  # what it holds is freed before the next wait


def _settle(future: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


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
                else:
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
