"""A mesh on this machine: encoders, trackers and gateways as processes."""

import asyncio
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from maskmesh.cli.mesh.service_process import MeshError, ServiceProcess
from maskmesh.cli.mesh.supervisor import Supervisor
from maskmesh.config import DEFAULT_SHARED_MEMORY_DIR
from maskmesh.rpc.addresses import local_target
from maskmesh.types import DTypeSetting, Tls

if TYPE_CHECKING:
    from maskmesh.storage.scratch import ScratchFolder

__all__ = ["LocalMesh", "MeshError", "MeshOptions"]

# Packages of the extra `services`.
_SERVICE_PACKAGES = ("torch", "safetensors", "cachetools", "aiolimiter", "redis")

_MODULES = {"encoder": "encoder_svc", "tracker": "tracker_svc", "gateway": "gateway"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshOptions:
    """Number and settings of the services of a mesh."""

    model: str = "micro"
    checkpoint: Path | None = None
    vocabulary: Path | None = None
    """Vocabulary of SAM 3; by default the file beside the checkpoint."""
    image_size: int | None = None
    encoders: int = 1
    trackers: int = 1
    gateways: int = 1
    host: str = "127.0.0.1"
    port: int = 0
    """Port of the first gateway; 0 chooses a free one.  Further gateways always get free ports."""
    encoder_port: int = 0
    """Port of the first encoder; 0 chooses a free one."""
    tracker_port: int = 0
    """Port of the first tracker; 0 chooses a free one."""
    device: str = "cpu"
    devices: Sequence[str] = ()
    """Torch devices instead of ``device``, assigned cyclically to encoders, then to trackers."""
    dtype: DTypeSetting = "auto"
    threads: int = 0
    """Threads of one operation in each encoder and tracker; 0 lets the services choose."""
    max_batch: int = 0
    """Largest batch; 0 lets the services choose."""
    cores: dict[str, set[int]] = field(default_factory=dict)
    """Cores that services are pinned to (Linux), by service name; by default encoders and trackers get
    separate cores if there are more than two of them and at least one core for each."""
    tls: Tls | None = None
    """Certificates (PEM): each service presents ``cert`` and verifies the others with ``ca``."""
    flags: dict[str, list[str]] = field(default_factory=dict)
    """Additional flags by kind of service: encoder, tracker, gateway."""
    environment: dict[str, str] = field(default_factory=dict)
    """Environment variables in addition to those of this process."""

    def __post_init__(self) -> None:
        if self.tls is not None and (self.tls.ca is None or self.tls.cert is None):
            raise ValueError("TLS of a mesh requires ca and cert")

    def names(self, kind: str) -> list[str]:
        """The names of the services of a kind: encoder, encoder-2 and so on."""
        count = {"encoder": self.encoders, "tracker": self.trackers, "gateway": self.gateways}[kind]
        return [kind if number == 1 else f"{kind}-{number}" for number in range(1, count + 1)]


class LocalMesh:
    """Encoders, trackers and gateways that are started and stopped together.

    ``log`` is called with the name of a service and each line of its output.  The mesh is an asynchronous
    context manager; inside it the gateways serve at :attr:`endpoint`.
    """

    process_type: type[ServiceProcess] = ServiceProcess

    def __init__(self, options: MeshOptions, *, log: Callable[[str, str], None] | None = None) -> None:
        self._options = options
        self._log = log or (lambda name, line: None)
        self._processes: dict[str, ServiceProcess] = {}
        self._folder: ScratchFolder | None = None
        self._cores = dict(options.cores) or _own_cores(options)
        self.endpoint = ""
        """A gRPC target for all gateways."""
        self.ports: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        if missing := [name for name in _SERVICE_PACKAGES if find_spec(name) is None]:
            raise MeshError(
                f"starting services needs {', '.join(missing)}: pip install 'maskmesh[services]', "
                "or give --endpoint of a running gateway"
            )
        if sys.platform == "win32":
            raise MeshError("services run on Linux and macOS; on Windows, give --endpoint of a gateway")
        from maskmesh.storage.scratch import ScratchFolder  # needs POSIX

        self._folder = ScratchFolder("maskmesh-local-", None)
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
        return self._processes[name].pid

    async def first_failure(self) -> MeshError:
        """Wait until a service ends; returns why."""
        waits = {asyncio.ensure_future(p.wait()): p for p in self._processes.values()}
        try:
            ended, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
        return await waits[ended.pop()].failure()

    def supervisor(self) -> Supervisor:
        """A supervisor that starts services again which end."""
        return Supervisor(
            self._processes, start=self._start_process, wait_ready=self._wait_ready, log=self._log
        )

    async def stop(self) -> None:
        """Stop the services, callers before the services that they call."""
        try:
            for kind in ("gateway", "tracker", "encoder"):
                names = [name for name in self._processes if _kind(name) == kind]
                stopping = (self._processes.pop(name).stop() for name in names)
                await asyncio.gather(*stopping, return_exceptions=True)
        finally:
            self._delete_folders()

    def _delete_folders(self) -> None:
        if self._folder is not None:
            from maskmesh.storage.scratch import delete_abandoned
            from maskmesh.storage.shared_memory import SHARED_MEMORY_PREFIX

            self._folder.close()
            if DEFAULT_SHARED_MEMORY_DIR is not None:
                delete_abandoned(DEFAULT_SHARED_MEMORY_DIR, SHARED_MEMORY_PREFIX)

    async def _start(self) -> None:
        options = self._options
        model = ["--model", options.model, "--dtype", options.dtype]
        model += ["--threads", str(options.threads), "--max-batch", str(options.max_batch)]
        if not self._cores:
            model += ["--shared-cores", str(self._path / "cores")]
        if options.checkpoint is not None:
            model += ["--checkpoint", str(options.checkpoint)]
        if options.image_size is not None:
            model += ["--image-size", str(options.image_size)]
        own: dict[str, list[str]] = {"encoder": [], "tracker": []}
        if options.vocabulary is not None:
            own["tracker"] = ["--vocabulary", str(options.vocabulary)]
        devices = itertools.cycle(options.devices or [options.device])
        for kind, first_port in (("encoder", options.encoder_port), ("tracker", options.tracker_port)):
            for name in options.names(kind):
                port = first_port if name == kind else 0
                await self._spawn(name, port, [*model, *own[kind], "--device", next(devices)])
        targets = {}
        for kind in ("encoder", "tracker"):
            for name in options.names(kind):
                self.ports[name] = await self._processes[name].port(partial(self._check, name))
            targets[kind] = self._target(options.names(kind))
        backends = ["--encoder", targets["encoder"], "--tracker", targets["tracker"]]
        for name in options.names("gateway"):
            port = options.port if name == "gateway" else 0
            await self._spawn(name, port, backends)
        for name in options.names("gateway"):
            await self._wait_ready(name)
        self.endpoint = self._target(options.names("gateway"))

    def _target(self, names: Sequence[str]) -> str:
        """A gRPC target for services of one kind."""
        return local_target(self._options.host, [self.ports[name] for name in names])

    @property
    def _environment(self) -> dict[str, str]:
        """Variables of the services.  Their temporary folders are in that of the mesh, and end with it."""
        return {"TMPDIR": str(self._path), **self._options.environment}

    @property
    def _path(self) -> Path:
        assert self._folder is not None, "the mesh is being started"
        return self._folder.path

    async def _spawn(self, name: str, port: int, flags: list[str]) -> None:
        options = self._options
        self._processes[name] = process = self.process_type(
            name,
            _MODULES[_kind(name)],
            [
                *("--host", options.host),
                *_tls_flags(name, options.tls),
                *("--port", str(port)),
                *options.flags.get(_kind(name), []),
                *flags,
            ],
            port_file=self._path / f"{name}.port",
            cores=self._cores.get(name),
            log=partial(self._log, name),
        )
        await self._start_process(process)

    async def _start_process(self, process: ServiceProcess) -> None:
        await process.start(self._environment)

    async def _wait_ready(self, name: str) -> None:
        process, check = self._processes[name], partial(self._check, name)
        self.ports[name] = await process.port(check)
        target = local_target(self._options.host, [self.ports[name]])
        await process.wait_ready(target, self._options.tls, check)

    async def _check(self, name: str) -> None:
        """Raises MeshError if a service has ended, or, once the mesh is ready, if ``name`` has."""
        for process in self._processes.values():
            if process.has_ended and (process.name == name or not self.endpoint):
                raise await process.failure()


def _kind(name: str) -> str:
    return name.split("-")[0]


def _own_cores(options: MeshOptions) -> dict[str, set[int]]:
    """An equal part of the cores for each service with a model, if there are several and enough cores."""
    services = options.names("encoder") + options.names("tracker")
    if not hasattr(os, "sched_getaffinity") or len(services) <= 2 or options.devices:
        return {}
    cores = sorted(os.sched_getaffinity(0))
    share = len(cores) // len(services)
    if not share:
        return {}
    return {name: set(cores[i * share : (i + 1) * share]) for i, name in enumerate(services)}


def _tls_flags(name: str, tls: Tls | None) -> list[str]:
    """Flags for certificates.  Clients of a gateway need no certificate, since they have API keys."""
    if tls is None:
        return []
    files = {"--tls-cert": tls.cert, "--tls-key": tls.key, "--tls-ca": tls.ca}
    if _kind(name) != "gateway":
        files["--tls-client-ca"] = tls.ca
    named = ["--tls-server-name", tls.server_name] if tls.server_name else []
    return [part for flag, path in files.items() if path is not None for part in (flag, str(path))] + named
