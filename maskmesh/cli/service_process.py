"""One service as a process on this machine."""

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from maskmesh.rpc.channel import open_channel
from maskmesh.types import Tls

STOP_SECONDS = 15.0

# Variables that must be set before a process starts.  By default an idle OpenMP thread spins for some
# milliseconds on a core that another service could use; a thread that sleeps at once wakes up late.  The
# value is a tenth of the default.  malloc gets one arena, because only its first arena can keep blocks of
# more than 64 MiB, and threads that libraries start on import would use others.
ENVIRONMENT = {"GOMP_SPINCOUNT": "10000", "MALLOC_ARENA_MAX": "1"}
_POLL_SECONDS = 0.05


class MeshError(RuntimeError):
    """A service could not be started, or has ended unexpectedly."""


class ServiceProcess:
    """A service that this process starts and stops.

    ``module`` is run with ``flags`` and pinned to ``cores``, None for all cores.  ``log`` is called with
    each line of its output.
    """

    def __init__(
        self,
        name: str,
        module: str,
        flags: list[str],
        *,
        port_file: Path,
        cores: set[int] | None,
        log: Callable[[str], None],
    ) -> None:
        self.name = name
        self.module = module
        self.flags = flags
        self._port_file = port_file
        self._cores = cores
        self._log = log
        self._last_lines: deque[str] = deque(maxlen=20)

    async def start(self, environment: Mapping[str, str], *, folder: Path | None = None) -> None:
        """Start the process in ``folder``, with this process's variables and those of ``environment``."""
        self._port_file.unlink(missing_ok=True)
        flags = ["--port-file", str(self._port_file), *self.flags]
        self._process = await self._launch(flags, {**ENVIRONMENT, **os.environ, **environment}, folder)
        self._pump = asyncio.ensure_future(self._read_output())

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.returncode is not None

    async def wait(self) -> None:
        """Wait until the process has ended."""
        await self._process.wait()

    async def failure(self) -> MeshError:
        """The error of a process that has ended, with its last lines of output."""
        await self._pump
        tail = "\n".join(list(self._last_lines)[-5:])
        return MeshError(f"the {self.name} ended with status {self._process.returncode}:\n{tail}")

    async def port(self, check: Callable[[], Any]) -> int:
        """Wait until the service listens; returns its port.  ``check`` is awaited meanwhile, may raise."""
        while not self._port_file.exists():
            await check()
            await asyncio.sleep(_POLL_SECONDS)
        return int(self._port_file.read_text())

    async def wait_ready(self, address: str, tls: Tls | None, check: Callable[[], Any]) -> None:
        """Wait until the service reports SERVING; ``check`` is as in :meth:`port`."""
        async with open_channel(address, max_message_bytes=2**20, tls=tls) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            while True:
                await check()
                with contextlib.suppress(grpc.RpcError):
                    response = await health.Check(health_pb2.HealthCheckRequest(), timeout=1.0)
                    if response.status == health_pb2.HealthCheckResponse.SERVING:
                        return
                await asyncio.sleep(_POLL_SECONDS)

    async def stop(self) -> None:
        """Stop the process with SIGTERM, and with SIGKILL if it does not end in time."""
        if not self.has_ended:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
                await self._process.wait()
        with contextlib.suppress(Exception):
            await self._pump

    async def _launch(
        self, flags: list[str], environment: dict[str, str], folder: Path | None
    ) -> asyncio.subprocess.Process:
        cores = self._cores
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", self.module, *flags),
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment,
            preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None,
            # Ctrl-C reaches this process only, which stops the services in order.
            process_group=0,
        )

    async def _read_output(self) -> None:
        assert self._process.stdout is not None, "the output is a pipe"
        rest = b""
        # Read the pipe to its end, even if a line cannot be logged: a full pipe would block the service.
        while chunk := await self._process.stdout.read(2**16):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                text = line.decode(errors="replace").rstrip()
                self._last_lines.append(text)
                with contextlib.suppress(Exception):
                    self._log(text)
