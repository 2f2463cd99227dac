"""One thread that owns a device, and a queue before it."""

import asyncio
import heapq
import itertools
import threading
import time
from collections.abc import Callable
from enum import IntEnum
from typing import Any, TypeVar

from maskmesh import telemetry
from maskmesh.errors import ResourceExhausted

T = TypeVar("T")


class Priority(IntEnum):
    """Order of the queue: lower goes first, equals in order of arrival."""

    INTERACTIVE = 0
    AHEAD = 1


class DeviceWorker:
    """Runs functions one after the other on a thread of its own.

    The event loop never computes, and the device has one user.  Work whose caller has left is skipped.
    ``run`` is called on the event loop; functions run on the thread.
    """

    def __init__(self, name: str, *, max_queue: int = 256) -> None:
        self._max_queue = max_queue
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def run(
        self,
        function: Callable[[], T],
        *,
        recorder: telemetry.StageRecorder | None = None,
        priority: Priority = Priority.INTERACTIVE,
        since_ns: int | None = None,
    ) -> T:
        """Run ``function`` on the thread and return what it returns.

        The wait is recorded as a ``queue`` stage, from ``since_ns`` where the work was ready earlier.
        Raises ResourceExhausted at once where too much is waiting.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        submitted = since_ns or time.time_ns()

        def job() -> None:
            if future.cancelled():
                return
            if recorder is not None:
                attributes: dict[str, telemetry.AttributeValue] = {telemetry.WAITS_FOR: "device"}
                recorder.add(telemetry.QUEUE, submitted, time.time_ns(), attributes)
            try:
                result = function()
            except BaseException as error:
                loop.call_soon_threadsafe(_settle, future, None, error)
            else:
                loop.call_soon_threadsafe(_settle, future, result, None)

        with self._changed:
            if self._closed:
                raise RuntimeError("the worker is closed")
            if len(self._heap) >= self._max_queue:
                raise ResourceExhausted("too much work is waiting", resource="queue")
            heapq.heappush(self._heap, (priority, next(self._order), job))
            self._changed.notify()
        return await future

    def close(self) -> None:
        """Finish what runs, drop what waits."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._heap and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                _, _, job = heapq.heappop(self._heap)
            job()
            del job  # what it holds is freed before the next wait


def _settle(future: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
