"""Asynchronous work for callers that are not: an event loop on a thread of its own."""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Generator, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

# How long a call that is interrupted may take to stop.
STOP_SECONDS = 5.0


class BackgroundLoop:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="maskmesh-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do work there; an exception here, such as Ctrl-C, stops it and waits until it has stopped.

        Raises RuntimeError on the loop's own thread, which would wait for itself.
        """
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("a blocking client cannot be called from its own callbacks")
        over = threading.Event()

        async def follow() -> T:
            try:
                return await work
            finally:
                over.set()

        future = asyncio.run_coroutine_threadsafe(follow(), self._loop)
        try:
            return future.result()
        except BaseException:
            if not future.done():
                future.cancel()
                over.wait(STOP_SECONDS)
            raise

    def iterate(self, items: AsyncIterator[T]) -> Generator[T, None, None]:
        """Take items one by one; leaving early closes the source."""

        async def step() -> tuple[bool, T | None]:
            try:
                return True, await anext(items)
            except StopAsyncIteration:
                return False, None

        async def close() -> None:
            if (aclose := getattr(items, "aclose", None)) is not None:
                await aclose()

        try:
            while (found := self.run(step()))[0]:
                yield found[1]  # type: ignore[misc]
        finally:
            self.run(close())

    @contextmanager
    def entered(self, manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
        """Hold an asynchronous context."""
        held = self.run(_enter(manager))
        try:
            yield held
        except BaseException as error:
            self.run(_leave(manager, error))
            raise
        self.run(_leave(manager, None))

    def close(self) -> None:
        """Stop the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _enter(manager: AbstractAsyncContextManager[T]) -> T:
    return await manager.__aenter__()


async def _leave(manager: AbstractAsyncContextManager[Any], error: BaseException | None) -> None:
    try:
        await manager.__aexit__(type(error) if error else None, error, None)
    except BaseException as raised:
        if raised is not error:
            raise
