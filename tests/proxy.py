"""A TCP proxy that simulates a network partition, or a slow line."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Proxy:
    """Forwards bytes between its port and a target port until it is cut.

    While it is cut, no bytes arrive and no connection is closed, as in a network partition.
    """

    def __init__(self, bytes_per_second: float) -> None:
        self._rate = bytes_per_second
        self.port = 0
        self.target = 0
        """The port to which connections are forwarded."""
        self.passed = 0
        """The number of forwarded bytes."""
        self._open = asyncio.Event()
        self._open.set()
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        self._open.clear()

    def heal(self) -> None:
        self._open.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._open.wait()
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        both = [asyncio.ensure_future(self._pump(*ends)) for ends in ((reader, back), (there, writer))]
        self._tasks.update(both)
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for task in both:
            task.cancel()
            self._tasks.discard(task)
        for end in (writer, back):
            end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(2**16 if self._rate == math.inf else 2**12):
                await self._open.wait()
                await asyncio.sleep(len(chunk) / self._rate)
                self.passed += len(chunk)
                writer.write(chunk)
                await writer.drain()

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()


@asynccontextmanager
async def running_proxy(bytes_per_second: float = math.inf) -> AsyncIterator[Proxy]:
    """A proxy whose queues hold 100 kB, as those of a home router."""
    proxy = Proxy(bytes_per_second)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=100_000)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        proxy.stop()
        server.close()
