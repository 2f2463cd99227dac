"""One service as a process on this machine."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from maskmesh.config import ENDS_WITH_STDIN
from maskmesh.rpc.channel import open_channel
from maskmesh.types import Tls

# How long a service may take to load its model, to warm up, and to stop.
START_SECONDS = 300.0
STOP_SECONDS = 15.0

# Variables that must be set before a process starts.  By default an idle OpenMP thread spins for some
# milliseconds on a core that another service could use; a thread that sleeps at once wakes up late.  The
# value is a tenth of the default.  malloc gets one arena, because only its first arena can keep blocks of
# more than 64 MiB, and threads that libraries start on import would use others.
ENVIRONMENT = {"GOMP_SPINCOUNT": "10000", "MALLOC_ARENA_MAX": "1"}
_POLL_SECONDS = 0.05

_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has none


class MeshError(RuntimeError):
    """A service could not be started, or has ended unexpectedly."""


class ServiceProcess:
    """A service that this process starts and stops.

    ``module`` is run with ``flags`` and pinned to ``cores``, None for all cores.  When it is started
    again, it listens on the same port.  ``log`` is called with each line of its output.
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
        self._port = 0
        self._port_file = port_file
        self._cores = cores
        self._log = log
        self._last_lines: deque[str] = deque(maxlen=20)
        self._launched: asyncio.subprocess.Process | None = None

    async def start(self, environment: Mapping[str, str], *, folder: Path | None = None) -> None:
        """Start the process in ``folder``, with this process's variables and those of ``environment``."""
        self._port_file.unlink(missing_ok=True)
        self.started = time.monotonic()
        flags = ["--port-file", str(self._port_file), *self.flags]
        if self._port:
            flags += ["--port", str(self._port)]
        self._launched = await self._launch(flags, _environment(environment), folder)
        self._pump = asyncio.ensure_future(self._read_output())

    @property
    def _process(self) -> asyncio.subprocess.Process:
        assert self._launched is not None, "start() must be called first"
        return self._launched

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
        status = self._process.returncode
        return MeshError(f"the {self.name} ended with status {status}:\n{self._tail()}".rstrip(":\n"))

    def _tail(self) -> str:
        return "\n".join(list(self._last_lines)[-5:])

    async def port(self, check: Callable[[], Any]) -> int:
        """Wait until the service listens; returns its port.  ``check`` is awaited meanwhile, may raise."""
        deadline = time.monotonic() + START_SECONDS
        while not self._port_file.exists():
            await check()
            if time.monotonic() > deadline:
                raise MeshError(
                    f"the {self.name} does not listen after {START_SECONDS:.0f} s:\n{self._tail()}"
                )
            await asyncio.sleep(_POLL_SECONDS)
        self._port = int(self._port_file.read_text())
        return self._port

    async def wait_ready(self, address: str, tls: Tls | None, check: Callable[[], Any]) -> None:
        """Wait until the service reports SERVING; ``check`` is as in :meth:`port`.

        Raises MeshError if it does not within START_SECONDS.
        """
        deadline = time.monotonic() + START_SECONDS
        async with open_channel(address, max_message_bytes=2**20, tls=tls) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            while time.monotonic() < deadline:
                await check()
                with contextlib.suppress(grpc.RpcError):
                    response = await health.Check(health_pb2.HealthCheckRequest(), timeout=1.0)
                    if response.status == health_pb2.HealthCheckResponse.SERVING:
                        return
                await asyncio.sleep(_POLL_SECONDS)
        raise MeshError(f"the {self.name} is not ready after {START_SECONDS:.0f} s:\n{self._tail()}")

    async def stop(self) -> None:
        """Stop the process with SIGTERM, and with SIGKILL if it does not end in time."""
        if self._launched is None:
            return
        if not self.has_ended:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    self._process.send_signal(_KILL)
                await self._process.wait()
        with contextlib.suppress(Exception):
            await self._pump

    async def _launch(
        self, flags: list[str], environment: dict[str, str], folder: Path | None
    ) -> asyncio.subprocess.Process:
        cores = self._cores
        # Code of another version, which tests run, is in a folder of its own.
        if folder is not None:
            environment = environment | {"PYTHONPATH": str(folder)}
        return await asyncio.create_subprocess_exec(
            sys.executable,
            # -P keeps the modules of the working directory from being imported in place of installed ones.
            *("-P", "-m", self.module, *flags),
            cwd=folder,
            # The service ends when this pipe is closed, which the system does at any end of this process.
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment | {ENDS_WITH_STDIN: str(self._port_file.parent)},
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


def _environment(added: Mapping[str, str]) -> dict[str, str]:
    """The variables of a service: those of this process, with fixed defaults, and ``added``.

    An empty entry of PYTHONPATH stands for the working directory, whose modules must not be imported.
    """
    environment = {**ENVIRONMENT, **os.environ, **added}
    if paths := environment.pop("PYTHONPATH", ""):
        kept = [path for path in paths.split(os.pathsep) if path not in ("", ".")]
        environment["PYTHONPATH"] = os.pathsep.join(kept)
    return environment
