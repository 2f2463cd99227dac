"""One thread that owns a device, and the order in which work reaches it."""

import asyncio
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

from maskmesh import telemetry
from maskmesh.scheduling.admission import Priority, AdmissionPolicy, QueueEntry, FairScheduler
from maskmesh.scheduling.cpu_sharing import SharedCores

# After so long without work there may be memory that is not needed.  To take it again costs some frames a
# tenth of their time, so that a pause between two videos is not long enough.
IDLE_SECONDS = 300.0

# How much the latest piece of work counts in the average.
SMOOTHING = 0.1

T = TypeVar("T")
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, eq=False)
class BatchedOperation(Generic[Item, Result]):
    """Work that is done at once for what waits of it.

    ``compute`` returns a result for each of its items, in their order.  Where it raises for several, it is
    called again for each alone: who fails fails alone.  Items are computed at once for which ``alike``
    returns equal values, up to ``most`` in the sum of their ``weight``; one item always is.
    """

    compute: Callable[[Sequence[Item]], Sequence[Result]]
    most: int
    weight: Callable[[Item], int] = lambda item: 1
    alike: Callable[[Item], Hashable] = lambda item: None


def _call_each(functions: Sequence[Callable[[], T]]) -> Sequence[T]:
    return [function() for function in functions]


_ALONE: BatchedOperation[Callable[[], Any], Any] = BatchedOperation(_call_each, most=1)


@dataclass(slots=True, eq=False)
class _Job:
    """One item, and who waits for it."""

    together: BatchedOperation[Any, Any]
    item: Any
    ticket: QueueEntry
    recorder: telemetry.StageRecorder | None
    submitted_ns: int
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Any]"
    begun: threading.Event = field(default_factory=threading.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    _key: Hashable | None = None

    @property
    def key(self) -> Hashable:
        """What it has in common with others that it can be done with; what has no key is alone."""
        if self._key is None:
            try:
                self._key = (self.together.alike(self.item),)
            except Exception:  # it will fail when it is computed, where somebody waits for the answer
                self._key = object()
        return self._key


class DeviceWorker:
    """Does work, one piece after the other, on a thread of its own.

    The event loop never computes, and the device has one user.  Work whose caller has left is skipped.
    ``run`` and ``run_batched`` are called on the event loop; functions run on the thread.
    """

    def __init__(
        self,
        name: str,
        *,
        limits: AdmissionPolicy | None = None,
        cores: SharedCores | None = None,
        when_idle: Callable[[], None] | None = None,
    ) -> None:
        """``limits`` say how much may wait.  With ``cores`` the device is shared with other processes.

        ``when_idle`` is called on the thread when there has been no work for some seconds.
        """
        self._limits = limits or AdmissionPolicy()
        self._turns = FairScheduler()
        self.seconds_each = 0.0
        """What a piece of work has taken lately."""
        self._cores = cores
        self._when_idle = when_idle
        self._jobs: list[_Job] = []
        self._changed = threading.Condition()
        self._closed = False
        self._running: QueueEntry | None = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def run(
        self,
        function: Callable[[], T],
        *,
        recorder: telemetry.StageRecorder | None = None,
        ticket: QueueEntry | None = None,
        since_ns: int | None = None,
        continues: bool = False,
    ) -> T:
        """Run ``function`` on the thread and return what it returns; else as :meth:`run_together`."""
        result: T = await self.run_batched(
            _ALONE, function, recorder=recorder, ticket=ticket, since_ns=since_ns, continues=continues
        )
        return result

    async def run_batched(
        self,
        together: BatchedOperation[Item, Result],
        item: Item,
        *,
        recorder: telemetry.StageRecorder | None = None,
        ticket: QueueEntry | None = None,
        since_ns: int | None = None,
        continues: bool = False,
    ) -> Result:
        """Compute ``item``, at once with others of ``together`` that wait with equal priority.

        A caller who is cancelled leaves at once where the work has not begun, which is then skipped, and
        else when it is over: whatever lock the caller holds is held for as long as the work runs.
        Waiting is recorded as ``queue`` stages: for the device, from ``since_ns`` where the work was ready
        earlier, and for the event loop to take the result.
        Raises ResourceExhausted at once where too much is waiting, unless the work ``continues`` what has
        begun and must not be left half done.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        submitted_ns = since_ns or time.time_ns()
        job = _Job(together, item, ticket or QueueEntry(), recorder, submitted_ns, loop, future)
        with self._changed:
            if self._closed:
                raise RuntimeError("the worker is closed")
            if not continues:
                # Who has left takes no place, until the thread finds that out.
                waiting = (j.ticket for j in self._jobs if not j.future.done())
                self._limits.check(waiting, job.ticket, self.seconds_each)
            self._jobs.append(job)
            self._changed.notify()
        try:
            result = await future
        except asyncio.CancelledError:
            if job.begun.is_set():
                await job.over.wait()
            raise
        if recorder is not None:
            # The event loop has others to serve, and a computing device leaves it little time.
            ended_ns = recorder.records[-1].end_ns
            recorder.add(telemetry.QUEUE, ended_ns, time.time_ns(), {telemetry.WAITS_FOR: "event_loop"})
        return result

    @property
    def num_waiting(self) -> int:
        """How much work waits; may be asked from any thread."""
        return sum(not j.future.done() for j in list(self._jobs))

    def run_urgent_work(self) -> bool:
        """Let go first what is more urgent than the work that runs; returns whether there was any.

        Called by that work, on the thread, wherever it can be left for a while.
        """
        running = self._running
        assert running is not None, "work gives way, and nobody else"
        if self._cores is not None:
            self._cores.adjust()
        has_run = False
        while self._turns.may_preempt and (jobs := self._take(before=running.priority)):
            self._run(jobs)
            has_run = True
        self._running = running
        return has_run

    def close(self) -> None:
        """Finish what runs, drop what waits."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while self._wait_for_work():
            if self._cores is not None:
                self._cores.begin()
            if jobs := self._take():
                self._run(jobs)

    def _wait_for_work(self) -> bool:
        """Whether there is some, and not the end."""
        is_idle = False
        while True:
            with self._changed:
                if self._closed or self._jobs:
                    return not self._closed
                if self._cores is not None and not is_idle:
                    self._cores.end()
                has_changed = self._changed.wait(None if is_idle else IDLE_SECONDS)
            if not has_changed:
                is_idle = True
                if self._when_idle is not None:
                    self._when_idle()

    def _take(self, before: Priority | None = None) -> list[_Job]:
        """What comes next and is done at once, of more urgent work than ``before`` if that is given."""
        if not self._jobs:
            return []
        with self._changed:
            self._jobs = [j for j in self._jobs if not j.future.done()]
            waiting = [j for j in self._jobs if before is None or j.ticket.priority < before]
        if not waiting:
            return []
        # Nobody else takes: what waits now waits until it is removed below.  Not under the lock, because
        # to say what is alike may take its time.
        waiting.sort(key=lambda j: self._turns.place(j.ticket))
        taken = waiting[:1]
        together, priority = taken[0].together, taken[0].ticket.priority
        weight = together.weight(taken[0].item)
        for job in waiting[1:] if together.most > 1 else ():
            if job.together is not together or job.ticket.priority is not priority:
                continue
            if weight + together.weight(job.item) <= together.most and job.key == taken[0].key:
                weight += together.weight(job.item)
                taken.append(job)
        with self._changed:
            for job in taken:
                self._jobs.remove(job)
        passed_over = before is not None or any(j.ticket.priority > priority for j in waiting)
        self._turns.took(*(job.ticket for job in taken), passed_over=passed_over)
        return taken

    def _run(self, jobs: list[_Job]) -> None:
        self._running = jobs[0].ticket
        for job in jobs:
            job.begun.set()
        wanted = [job for job in jobs if not job.future.cancelled()]
        for job in wanted:
            if job.recorder is not None:
                waited = {telemetry.WAITS_FOR: "device"}
                job.recorder.add(telemetry.QUEUE, job.submitted_ns, time.time_ns(), dict(waited))
        began = time.monotonic()
        settled = _compute(wanted)
        if wanted:
            seconds = (time.monotonic() - began) / len(wanted)
            self.seconds_each += SMOOTHING * (seconds - self.seconds_each)
        for job, settle in zip(wanted, settled, strict=True):
            job.loop.call_soon_threadsafe(settle)
        for job in jobs:
            job.loop.call_soon_threadsafe(job.over.set)


def _compute(jobs: Sequence[_Job]) -> list[Callable[[], None]]:
    """Compute jobs of a kind; returns what settles the future of each."""
    if not jobs:
        return []
    recorded = [0 if job.recorder is None else len(job.recorder.records) for job in jobs]
    try:
        results = jobs[0].together.compute([job.item for job in jobs])
        return [partial(_settle, job.future, r, None) for job, r in zip(jobs, results, strict=True)]
    except BaseException as error:
        if len(jobs) == 1:
            return [partial(_settle, jobs[0].future, None, error)]
    for job, count in zip(jobs, recorded, strict=True):
        if job.recorder is not None:  # what did not come to its end is done again
            del job.recorder.records[count:]
    return [settle for job in jobs for settle in _compute([job])]


def _settle(future: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
