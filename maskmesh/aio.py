"""Small tools for asyncio: tasks that must be held, work that is shared, calls that are retried.

An ``asyncio.TaskGroup`` waits for its tasks at the end of a block, and so fits neither a generator that
yields between them nor work that outlives the call that began it.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


class TaskSet:
    """Tasks beside their creator, held until they are done: the event loop holds tasks weakly."""

    def __init__(self, on_error: Callable[[BaseException], None] | None = None) -> None:
        """``on_error`` is called with the exception of each task that fails; by default it is logged."""
        self._on_error = on_error
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Begin a task.  Its failure goes to ``on_error``, and to the caller that awaits it."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def hold(self, task: "asyncio.Task[Any]") -> None:
        """Hold a task that the caller began, and whose failure the caller handles."""
        self._tasks.add(task)
        task.add_done_callback(self._release)

    def cancel(self) -> None:
        """Cancel all tasks."""
        for task in list(self._tasks):
            task.cancel()

    async def wait(self) -> None:
        """Wait for all tasks; never raises what they raise."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        """Cancel all tasks and wait for them."""
        self.cancel()
        await self.wait()

    def _release(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # marked as retrieved: the stream may end before the caller awaits the task

    def _finished(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if self._on_error is None:
            logger.error("a background task failed", exc_info=error)
        else:
            self._on_error(error)


async def stop(task: "asyncio.Task[Any]") -> None:
    """Cancel a task and wait for its end; never raises what the task raises."""
    while not task.done():
        # redis-py loses a cancellation that comes together with a response, so one may not be enough.
        task.cancel()
        await asyncio.wait({task}, timeout=0.1)


async def ended(futures: Iterable[Future[Any]]) -> None:
    """Wait for the work of other threads; never raises what it raises, and never cancels it."""
    waits = [asyncio.wrap_future(future) for future in futures]
    await asyncio.shield(asyncio.gather(*waits, return_exceptions=True))


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """The result of work that must not stop half-way.

    If the caller is cancelled, the work still ends first; then the cancellation is raised.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # the caller is gone, so nobody else reads it
        raise


@dataclass(slots=True, eq=False)
class Flight(Generic[T]):
    """One piece of work that several callers wait for."""

    task: "asyncio.Task[T]"
    num_callers: int = 0


class SingleFlight(Generic[K, T]):
    """Does work once for all concurrent callers with an equal key.

    A caller that is cancelled leaves the others their result.  With ``cancel_abandoned`` the work is
    cancelled when its last caller leaves; without it the work runs to its end.
    """

    def __init__(
        self, *, cancel_abandoned: bool = False, on_end: Callable[[K], object] = lambda key: None
    ) -> None:
        """``on_end`` is called when callers with an equal key no longer join the work."""
        self._cancel_abandoned = cancel_abandoned
        self._on_end = on_end
        self._flights: dict[K, Flight[T]] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._flights

    async def run(self, key: K, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of ``work``, or of the work with an equal key that is under way.

        Raises what it raises.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = Flight(asyncio.ensure_future(work()))
            flight.task.add_done_callback(lambda _: self._remove(key, flight))
        flight.num_callers += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.num_callers -= 1
            if self._cancel_abandoned and not flight.num_callers and not flight.task.done():
                self._remove(key, flight)  # a new caller begins anew
                flight.task.cancel()

    async def close(self) -> None:
        """Cancel all work and wait for it."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _remove(self, key: K, flight: Flight[T]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
            self._on_end(key)
        if flight.task.done() and not flight.task.cancelled():
            flight.task.exception()  # marked as retrieved: all callers may have left


class RetryWindow:
    """How long a caller retries, and how long it pauses before each retry.

    The window opens with the first failure and closes ``seconds`` later; :meth:`reset` forgets the failures.
    Pauses begin with ``first_pause`` seconds and double up to ``max_pause``, each between half and one and a
    half of that, so that callers that failed together do not retry together.
    """

    def __init__(self, seconds: float, *, first_pause: float, max_pause: float | None = None) -> None:
        self._seconds = seconds
        self._first_pause = first_pause
        self._max_pause = first_pause if max_pause is None else max_pause
        self._opened: float | None = None
        self._pause = first_pause

    @property
    def elapsed(self) -> float:
        """Seconds since the first failure; the first call opens the window."""
        if self._opened is None:
            self._opened = time.monotonic()
        return time.monotonic() - self._opened

    def reset(self) -> None:
        """Note a success: the next failure opens a new window."""
        self._opened = None
        self._pause = self._first_pause

    async def wait(self, error: BaseException, pause: float | None = None) -> None:
        """Pause before the next attempt (``pause`` seconds if given), or raise ``error`` if the window is
        closed.
        """
        if self.elapsed > self._seconds:
            raise error
        seconds = self._pause if pause is None else pause
        self._pause = min(2 * self._pause, self._max_pause)
        await asyncio.sleep(seconds * random.uniform(0.5, 1.5))


async def retry(
    work: Callable[[], Awaitable[T]], window: RetryWindow, is_retried: Callable[[Exception], bool]
) -> T:
    """The result of ``work``, called again within ``window`` after errors for which ``is_retried`` is
    true.
    """
    while True:
        try:
            return await work()
        except Exception as error:
            if not is_retried(error):
                raise
            await window.wait(error)


class StreamOutput(Generic[T]):
    """The output of a stream that several tasks produce: items in order, then the end or an error.

    Iterate over it in the generator that serves the stream, and :meth:`close` it in its ``finally``.
    """

    def __init__(self) -> None:
        self._queue: asyncio.Queue[tuple[T] | BaseException | None] = asyncio.Queue()
        self.tasks = TaskSet(self.fail)

    def __len__(self) -> int:
        return self._queue.qsize()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Begin a task; its failure ends the stream."""
        self.tasks.spawn(work)

    def put(self, item: T) -> None:
        """Append an item."""
        self._queue.put_nowait((item,))

    def finish(self) -> None:
        """End the stream after the items so far."""
        self._queue.put_nowait(None)

    def fail(self, error: BaseException) -> None:
        """End the stream with an error after the items so far."""
        self._queue.put_nowait(error)

    async def __aiter__(self) -> AsyncIterator[T]:
        while (item := await self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item[0]

    async def close(self) -> None:
        """Cancel the tasks and wait for them."""
        await self.tasks.close()
