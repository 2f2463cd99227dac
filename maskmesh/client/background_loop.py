"""An event loop on a thread of its own, for the blocking client."""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Generator, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

# How long an interrupted call may take to stop.
STOP_SECONDS = 5.0


class BackgroundLoop:
    """Runs coroutines on an event loop on a thread of its own, and waits for them."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="maskmesh-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine.  An exception in this thread, such as Ctrl-C, cancels it and waits
        for its end.

        Raises RuntimeError on the loop's own thread, which would wait for itself.
        """
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("a blocking client cannot be called from its own callbacks")
        ended = threading.Event()

        async def run() -> T:
            try:
                return await work
            finally:
                ended.set()

        future = asyncio.run_coroutine_threadsafe(run(), self._loop)
        try:
            return future.result()
        except BaseException:
            if not future.done():
                future.cancel()
                ended.wait(STOP_SECONDS)
            raise

    def iterate(self, items: AsyncIterator[T]) -> Generator[T, None, None]:
        """The items of an asynchronous iterator, which is closed when the loop is left."""

        async def next_item() -> tuple[T] | None:
            try:
                return (await anext(items),)
            except StopAsyncIteration:
                return None

        async def close() -> None:
            if (aclose := getattr(items, "aclose", None)) is not None:
                await aclose()

        try:
            while (item := self.run(next_item())) is not None:
                yield item[0]
        finally:
            self.run(close())

    @contextmanager
    def entered(self, manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
        """An asynchronous context as a blocking one."""

        async def enter() -> T:
            return await manager.__aenter__()

        async def leave(error: BaseException | None) -> None:
            try:
                await manager.__aexit__(type(error) if error else None, error, None)
            except BaseException as raised:
                if raised is not error:
                    raise

        value = self.run(enter())
        try:
            yield value
        except BaseException as error:
            self.run(leave(error))
            raise
        self.run(leave(None))

    def close(self) -> None:
        """Stop the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
