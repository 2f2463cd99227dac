"""The services as processes on this machine."""

import asyncio
import contextlib
import itertools
import os
import signal
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from maskmesh.nn.dtype import DTypeSetting
from maskmesh.rpc.channel import open_channel
from maskmesh.rpc.tls import Tls

STOP_SECONDS = 15.0

# What can only be said before a process starts.  A thread of OpenMP that waits for more work keeps its core
# for some milliseconds, which another service could use, and one that sleeps at once wakes up late: a tenth
# of the time is a tenth of both evils.  And one arena for malloc, because only the first can hold blocks of
# more than 64 MiB, and threads that libraries start while they are imported take others.
_PROCESS = {"GOMP_SPINCOUNT": "10000", "MALLOC_ARENA_MAX": "1"}
_POLL_SECONDS = 0.05


class MeshError(RuntimeError):
    """A service could not be started, or ended by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshOptions:
    """What the services are started with."""

    model: str = "micro"
    checkpoint: Path | None = None
    image_size: int | None = None
    encoders: int = 1
    trackers: int = 1
    gateways: int = 1
    host: str = "127.0.0.1"
    port: int = 0
    """Port of the first gateway; 0 chooses a free one, as for the others."""
    encoder_port: int = 0
    """Port of the first encoder."""
    tracker_port: int = 0
    """Port of the first tracker."""
    device: str = "cpu"
    devices: Sequence[str] = ()
    """Torch devices, one after the other for encoders and then for trackers, and from the beginning again; in
    place of ``device``."""
    dtype: DTypeSetting = "auto"
    threads: int = 0
    """Threads of one operation in each service with a model; 0 leaves it to the services."""
    max_batch: int = 0
    """How much is computed at once; 0 leaves it to the services."""
    cores: dict[str, set[int]] = field(default_factory=dict)
    """Cores of services that have some for themselves (Linux), by name; others share all that this process
    has.  Where there are more encoders and trackers than one each, and as many cores, each has its own by
    default."""
    tls: Tls | None = None
    """Certificates (PEM): each service shows ``cert``, asks for one of ``ca`` where it is called by other
    services, and has those of the others made sure of by ``ca`` and ``server_name``."""
    flags: dict[str, list[str]] = field(default_factory=dict)
    """Further flags by kind of service: encoder, tracker, gateway."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables beside those of this process."""
    code: Path | None = None
    """Folder whose packages services run, for another version than this one."""

    def __post_init__(self) -> None:
        if self.tls is not None and (self.tls.ca is None or self.tls.cert is None):
            raise ValueError("services need authorities to trust and a certificate to show")

    def names(self, kind: str) -> list[str]:
        """The names of the services of a kind: encoder, encoder-2 and so on."""
        count = {"encoder": self.encoders, "tracker": self.trackers, "gateway": self.gateways}[kind]
        return [kind if number == 1 else f"{kind}-{number}" for number in range(1, count + 1)]


@dataclass(slots=True)
class _Process:
    name: str
    module: str
    flags: list[str]
    process: asyncio.subprocess.Process
    port_file: Path
    log: "asyncio.Task[None]"
    last_lines: deque[str]


class LocalMesh:
    """Encoders, trackers and gateways, started together and stopped together.

    ``log`` receives every line of the services, after the service's name.  Used as an async context
    manager; :attr:`endpoint` is ready to be called inside of it.
    """

    def __init__(self, options: MeshOptions, *, log: Callable[[str, str], None] | None = None) -> None:
        self._options = options
        self._log = log or (lambda name, line: None)
        self._processes: dict[str, _Process] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="maskmesh-")
        self._cores = dict(options.cores) or _own_cores(options)
        self.endpoint = ""
        """A gRPC target for all gateways."""
        self.ports: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    def pid(self, name: str) -> int:
        """The process id of a service."""
        return self._processes[name].process.pid

    async def wait(self) -> None:
        """Wait until a service ends, which it should not.  Raises MeshError."""
        waits = {asyncio.ensure_future(p.process.wait()): p for p in self._processes.values()}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
        raise self._ended(waits[done.pop()])

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a service."""
        os.kill(self.pid(name), number)

    async def restart(self, name: str, *, code: Path | None = None) -> None:
        """Stop a service, if it has not ended, and start it again on its port; returns when it is ready.

        ``code`` as in :class:`MeshOptions`; None is that of this process.
        """
        before = self._processes.pop(name)
        await _stop(before)
        before.port_file.unlink(missing_ok=True)
        flags = [*before.flags, "--port", str(self.ports[name])]
        await self._spawn(name, before.module, flags, code)
        await self._port(name)
        await self._until_serving(name)

    async def stop(self) -> None:
        """Stop the services in the order of their calls, and wait for them."""
        for kind in ("gateway", "tracker", "encoder"):
            names = [name for name in self._processes if name.split("-")[0] == kind]
            await asyncio.gather(*(_stop(self._processes.pop(name)) for name in names))
        self._folder.cleanup()

    async def _start(self) -> None:
        options = self._options
        model = ["--model", options.model, "--dtype", options.dtype]
        model += ["--threads", str(options.threads), "--max-batch", str(options.max_batch)]
        if not self._cores:
            model += ["--shared-cores", str(Path(self._folder.name) / "cores")]
        if options.checkpoint is not None:
            model += ["--checkpoint", str(options.checkpoint)]
        if options.image_size is not None:
            model += ["--image-size", str(options.image_size)]
        devices = itertools.cycle(options.devices or [options.device])
        for kind, module, port in (
            ("encoder", "encoder_svc", options.encoder_port),
            ("tracker", "tracker_svc", options.tracker_port),
        ):
            for name in options.names(kind):
                first = port if name == kind else 0
                flags = [*model, "--device", next(devices), "--port", str(first)]
                await self._spawn(name, module, flags, options.code)
        targets = {}
        for kind in ("encoder", "tracker"):
            for name in options.names(kind):
                self.ports[name] = await self._port(name)
            targets[kind] = self._target(options.names(kind))
        backends = ["--encoder", targets["encoder"], "--tracker", targets["tracker"]]
        for name in options.names("gateway"):
            first = options.port if name == "gateway" else 0
            await self._spawn(name, "gateway", [*backends, "--port", str(first)], options.code)
        for name in options.names("gateway"):
            self.ports[name] = await self._port(name)
            await self._until_serving(name)
        self.endpoint = self._target(options.names("gateway"))

    def _target(self, names: Sequence[str]) -> str:
        """A gRPC target for services of a kind."""
        addresses = ",".join(f"{self._options.host}:{self.ports[name]}" for name in names)
        return addresses if len(names) == 1 else f"ipv4:{addresses}"

    async def _spawn(self, name: str, module: str, flags: list[str], code: Path | None) -> None:
        port_file = Path(self._folder.name) / f"{name}.port"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", module, "--host", self._options.host, "--port-file", str(port_file)),
            *_tls_flags(name, self._options.tls),
            *self._options.flags.get(name.split("-")[0], []),
            *flags,
            cwd=code,  # where Python looks for modules first
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**_PROCESS, **os.environ, **self._options.environment},
            preexec_fn=self._pin(name),
            # Ctrl-C reaches this process only, which stops the others in order.
            process_group=0,
        )
        last_lines: deque[str] = deque(maxlen=20)
        pump = asyncio.ensure_future(self._pump(name, process, last_lines))
        self._processes[name] = _Process(name, module, flags, process, port_file, pump, last_lines)

    def _pin(self, name: str) -> Callable[[], None] | None:
        """What a process does first to keep to its cores."""
        if not (cores := self._cores.get(name)):
            return None
        return lambda: os.sched_setaffinity(0, cores)

    async def _pump(self, name: str, process: asyncio.subprocess.Process, last_lines: deque[str]) -> None:
        assert process.stdout is not None
        rest = b""
        while chunk := await process.stdout.read(2**16):
            # A pipe that nobody reads would stop the service: whatever is in a line, go on.
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                text = line.decode(errors="replace").rstrip()
                last_lines.append(text)
                with contextlib.suppress(Exception):
                    self._log(name, text)

    async def _port(self, name: str) -> int:
        process = self._processes[name]
        while not process.port_file.exists():
            await self._check(name)
            await asyncio.sleep(_POLL_SECONDS)
        return int(process.port_file.read_text())

    async def _until_serving(self, name: str) -> None:
        address = f"{self._options.host}:{self.ports[name]}"
        async with open_channel(address, max_message_bytes=2**20, tls=self._options.tls) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            while True:
                await self._check(name)
                with contextlib.suppress(grpc.RpcError):
                    answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=1.0)
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        return
                await asyncio.sleep(_POLL_SECONDS)

    async def _check(self, name: str) -> None:
        """Raises MeshError where a service has ended that another one needs, or itself."""
        for process in self._processes.values():
            if process.process.returncode is not None and (process.name == name or not self.endpoint):
                await process.log
                raise self._ended(process)

    def _ended(self, process: _Process) -> MeshError:
        tail = "\n".join(list(process.last_lines)[-5:])
        return MeshError(f"the {process.name} ended with status {process.process.returncode}:\n{tail}")


def _own_cores(options: MeshOptions) -> dict[str, set[int]]:
    """Cores for each service with a model, where there are several and enough for all."""
    services = options.names("encoder") + options.names("tracker")
    if not hasattr(os, "sched_getaffinity") or len(services) <= 2 or options.devices:
        return {}
    cores = sorted(os.sched_getaffinity(0))
    share = len(cores) // len(services)
    if not share:
        return {}
    return {name: set(cores[i * share : (i + 1) * share]) for i, name in enumerate(services)}


def _tls_flags(name: str, tls: Tls | None) -> list[str]:
    """Clients of a gateway need no certificate: they have keys."""
    if tls is None:
        return []
    files = {"--tls-cert": tls.cert, "--tls-key": tls.key, "--tls-ca": tls.ca}
    if not name.startswith("gateway"):
        files["--tls-client-ca"] = tls.ca
    named = [] if not tls.server_name else ["--tls-server-name", tls.server_name]
    return [part for flag, path in files.items() if path is not None for part in (flag, str(path))] + named


async def _stop(process: _Process) -> None:
    if process.process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.process.wait(), STOP_SECONDS)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.process.kill()
            await process.process.wait()
    with contextlib.suppress(Exception):
        await process.log
