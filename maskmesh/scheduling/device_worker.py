"""A thread that owns a device: dynamic batching, priorities, and preemption by interactive work."""

import asyncio
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

from maskmesh import telemetry
from maskmesh.scheduling.admission import AdmissionPolicy, FairScheduler, Priority, QueueEntry
from maskmesh.scheduling.cpu_sharing import CorePolicy

# A worker without work for this long frees memory.  Allocating it again slows some frames down by a tenth, so
# a pause between two videos must not be long enough.
IDLE_SECONDS = 300.0

# Weight of the latest work in the mean service time.
SMOOTHING = 0.1

T = TypeVar("T")
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, eq=False)
class BatchedOperation(Generic[Item, Result]):
    """An operation that is computed in batches of the items that wait for it.

    ``compute`` returns one result for each item, in order.  If it raises for a batch of several, it is called
    again for each item alone, so that an item fails alone.  Items with equal ``batch_key`` may share a batch,
    up to ``max_weight`` in the sum of their ``weight``; a batch of one item is always allowed.
    """

    compute: Callable[[Sequence[Item]], Sequence[Result]]
    max_weight: int
    weight: Callable[[Item], int] = lambda item: 1
    batch_key: Callable[[Item], Hashable] = lambda item: None


def _call_each(functions: Sequence[Callable[[], T]]) -> Sequence[T]:
    return [function() for function in functions]


_SINGLE: BatchedOperation[Callable[[], Any], Any] = BatchedOperation(_call_each, max_weight=1)


@dataclass(slots=True, eq=False)
class _Job:
    """One item, and the caller that waits for its result."""

    operation: BatchedOperation[Any, Any]
    item: Any
    entry: QueueEntry
    recorder: telemetry.StageRecorder | None
    submitted_ns: int
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Any]"
    begun: threading.Event = field(default_factory=threading.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    _key: Hashable | None = None

    @property
    def batch_key(self) -> Hashable:
        """Jobs with equal keys may share a batch.  A job whose key cannot be computed runs alone."""
        if self._key is None:
            try:
                self._key = (self.operation.batch_key(self.item),)
            except Exception:  # raised again by ``compute``, to the caller
                self._key = object()
        return self._key


class DeviceWorker:
    """Computes jobs one batch after the other on a thread of its own.

    The event loop never computes, and the device has one user.  Jobs whose callers have left are skipped.
    :meth:`run` and :meth:`run_batched` are called on the event loop; the functions run on the thread.
    """

    def __init__(
        self,
        name: str,
        *,
        policy: AdmissionPolicy | None = None,
        cores: CorePolicy | None = None,
        on_idle: Callable[[], None] | None = None,
    ) -> None:
        """``policy`` bounds the queue; None admits everything, for callers that were admitted elsewhere.

        ``on_idle`` is called on the thread after ``IDLE_SECONDS`` without work.
        """
        self._policy = policy
        self._scheduler = FairScheduler()
        self.seconds_each = 0.0
        """Mean service time of the latest jobs in seconds."""
        self._cores = cores or CorePolicy()
        self._on_idle = on_idle
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
        entry: QueueEntry | None = None,
        since_ns: int | None = None,
    ) -> T:
        """The result of ``function`` on the thread; otherwise like :meth:`run_batched`."""
        result: T = await self.run_batched(
            _SINGLE, function, recorder=recorder, entry=entry, since_ns=since_ns
        )
        return result

    async def run_batched(
        self,
        operation: BatchedOperation[Item, Result],
        item: Item,
        *,
        recorder: telemetry.StageRecorder | None = None,
        entry: QueueEntry | None = None,
        since_ns: int | None = None,
        is_continuation: bool = False,
    ) -> Result:
        """The result of ``item``, computed in a batch with others of ``operation`` that have equal priority.

        If the caller is cancelled before the job has begun, the job is skipped; after that the cancellation
        takes effect when the job has ended, so that locks of the caller are held while the job runs. Waits
        are recorded as ``queue`` stages: for the device, from ``since_ns`` if the item was ready earlier, and
        for the event loop to take the result. Raises ResourceExhausted if the queue is full, unless the job
        ``is_continuation`` of work that must not be left half done.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        job = _Job(operation, item, entry or QueueEntry(), recorder, since_ns or time.time_ns(), loop, future)
        with self._changed:
            if self._closed:
                raise RuntimeError("the worker is closed")
            if self._policy is not None and not is_continuation:
                # Jobs whose callers have left take no slot.
                queued = [j.entry for j in self._jobs if not j.future.done()]
                self._policy.check(job.entry, queued=queued, seconds_each=self.seconds_each)
            self._jobs.append(job)
            self._changed.notify()
        try:
            result = await future
        except asyncio.CancelledError:
            if job.begun.is_set():
                await job.ended.wait()
            raise
        if recorder is not None:
            ended_ns = recorder.records[-1].end_ns
            recorder.add(telemetry.QUEUE, ended_ns, time.time_ns(), {telemetry.WAITS_FOR: "event_loop"})
        return result

    @property
    def num_queued(self) -> int:
        """Jobs that wait; may be read on any thread."""
        return sum(not j.future.done() for j in list(self._jobs))

    def run_urgent_work(self) -> bool:
        """Run queued jobs of higher priority than the running one; returns whether there were any.

        Called on the thread, by the running job, between blocks of its work.
        """
        running = self._running
        assert running is not None, "only a running job can be preempted"
        self._cores.adjust()
        has_run = False
        while self._scheduler.may_preempt and (jobs := self._take_batch(before=running.priority)):
            self._run(jobs)
            has_run = True
        self._running = running
        return has_run

    def close(self) -> None:
        """Finish the running job, drop the queue and stop the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while self._wait_for_jobs():
            self._cores.begin()
            if jobs := self._take_batch():
                self._run(jobs)

    def _wait_for_jobs(self) -> bool:
        """Returns False when the worker is closed."""
        is_idle = False
        while True:
            with self._changed:
                if self._closed or self._jobs:
                    return not self._closed
                if not is_idle:
                    self._cores.end()
                has_changed = self._changed.wait(None if is_idle else IDLE_SECONDS)
            if not has_changed:
                is_idle = True
                if self._on_idle is not None:
                    self._on_idle()

    def _take_batch(self, before: Priority | None = None) -> list[_Job]:
        """Remove the next batch from the queue; only jobs of higher priority than ``before`` if given."""
        if not self._jobs:
            return []
        with self._changed:
            self._jobs = [j for j in self._jobs if not j.future.done()]
            queued = [j for j in self._jobs if before is None or j.entry.priority < before]
        if not queued:
            return []
        # Only this thread removes jobs, so the lock is not held while batch keys are computed.
        queued.sort(key=lambda j: self._scheduler.sort_key(j.entry))
        first = queued[0]
        operation, priority = first.operation, first.entry.priority
        batch, weight = [first], operation.weight(first.item)
        for job in queued[1:] if operation.max_weight > 1 else ():
            if job.operation is not operation or job.entry.priority is not priority:
                continue
            if (
                weight + operation.weight(job.item) <= operation.max_weight
                and job.batch_key == first.batch_key
            ):
                weight += operation.weight(job.item)
                batch.append(job)
        with self._changed:
            for job in batch:
                self._jobs.remove(job)
        preempted = before is not None or any(j.entry.priority > priority for j in queued)
        self._scheduler.note_served(*(job.entry for job in batch), preempted=preempted)
        return batch

    def _run(self, jobs: list[_Job]) -> None:
        self._running = jobs[0].entry
        for job in jobs:
            job.begun.set()
        pending = [job for job in jobs if not job.future.cancelled()]
        for job in pending:
            if job.recorder is not None:
                job.recorder.add(
                    telemetry.QUEUE, job.submitted_ns, time.time_ns(), {telemetry.WAITS_FOR: "device"}
                )
        start = time.monotonic()
        settles = _compute(pending)
        if pending:
            seconds = (time.monotonic() - start) / len(pending)
            self.seconds_each += SMOOTHING * (seconds - self.seconds_each)
        for job, settle in zip(pending, settles, strict=True):
            job.loop.call_soon_threadsafe(settle)
        for job in jobs:
            job.loop.call_soon_threadsafe(job.ended.set)


def _compute(jobs: Sequence[_Job]) -> list[Callable[[], None]]:
    """Compute jobs of one operation; returns a function for each that settles its future."""
    if not jobs:
        return []
    num_records = [0 if job.recorder is None else len(job.recorder.records) for job in jobs]
    try:
        results = jobs[0].operation.compute([job.item for job in jobs])
        return [partial(_settle, job.future, r, None) for job, r in zip(jobs, results, strict=True)]
    except BaseException as error:
        if len(jobs) == 1:
            return [partial(_settle, jobs[0].future, None, error)]
    for job, count in zip(jobs, num_records, strict=True):
        if job.recorder is not None:  # stages of the failed batch are computed again
            del job.recorder.records[count:]
    return [settle for job in jobs for settle in _compute([job])]


def _settle(future: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
