"""A real Redis server for tests, which can be killed and stopped."""

import asyncio
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis.asyncio

from maskmesh import VideoSession
from maskmesh.cli.mesh.local_mesh import LocalMesh

needs_redis = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="redis-server is not installed (Debian: redis-server)"
)


class RedisServer:
    """A redis-server on a free port that persists its data in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            "redis-server",
            *("--bind", "127.0.0.1", "--port", str(self._port), "--dir", str(self._folder)),
            *("--save", "", "--appendonly", "yes"),
            stdout=asyncio.subprocess.DEVNULL,
        )
        async with self.client() as client:
            while True:
                try:
                    await client.ping()
                    return
                except redis.exceptions.RedisError:
                    assert self._process.returncode is None, "redis-server did not start"
                    await asyncio.sleep(0.05)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[redis.asyncio.Redis]:
        client = redis.asyncio.Redis.from_url(self.url)
        try:
            yield client
        finally:
            await client.aclose()

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None and self._process.returncode is None:
            self.send(signal.SIGCONT)
            self.send(number)
            await self._process.wait()


@asynccontextmanager
async def running_redis(folder: Path) -> AsyncIterator[RedisServer]:
    server = RedisServer(folder)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def owner_of(session: VideoSession, mesh: LocalMesh, store: RedisServer) -> str:
    """The name of the tracker that owns a session, by the record in the store."""
    async with store.client() as client:
        found = await client.hget(f"maskmesh:1:{{{session.session_id}}}:session", "address")
    assert isinstance(found, bytes)
    port = int(found.decode().rsplit(":", 1)[1])
    return next(name for name, its in mesh.ports.items() if its == port)
