"""Starts services by fork of a process that has imported their packages.

To import torch takes most of the start of an encoder or tracker.  A warm parent imports it once for all
meshes of a test run; each service is a process of its own all the same, with its own pid, environment and
output, which tests can stop and kill.
"""

import asyncio
import atexit
import contextlib
import gc
import importlib
import json
import os
import random
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

from maskmesh.cli.mesh.service_process import ENVIRONMENT, ServiceProcess

# Read when a package is imported, so that a child cannot change them.
_READ_ON_IMPORT = ("OTEL_PROPAGATORS",)
_MAX_REQUEST = 2**17

# What the services import, with all that these import.
_IMPORTED = ("encoder_svc.service", "tracker_svc.service", "gateway.service", "maskmesh.telemetry.otel_sdk")


class ForkedProcess:
    """A child of the warm parent, with the interface of ``asyncio.subprocess.Process``."""

    def __init__(self, pid: int, stdout: asyncio.StreamReader) -> None:
        self.pid = pid
        self.stdout = stdout
        self._descriptor = os.pidfd_open(pid)
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._descriptor, self._on_end)

    @property
    def returncode(self) -> int | None:
        """-1 after the end, because the status is known to the parent only."""
        return -1 if self._ended.is_set() else None

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> None:
        await self._ended.wait()

    def _on_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._ended.set()


class WarmServiceProcess(ServiceProcess):
    """A service that is forked from the warm parent, unless it runs other code or needs a fresh import."""

    async def _launch(self, flags: list[str], environment: dict[str, str], folder: Path | None) -> Any:
        if folder is not None or any(name in environment for name in _READ_ON_IMPORT):
            return await super()._launch(flags, environment, folder)
        reading, writing = os.pipe()
        request = {
            "module": self.module,
            "flags": flags,
            "environment": environment,
            "cores": sorted(self._cores or ()),
        }
        pid = await asyncio.to_thread(_fork, json.dumps(request).encode(), writing)
        os.close(writing)
        loop = asyncio.get_running_loop()
        stdout = asyncio.StreamReader()
        pipe = os.fdopen(reading, "rb", buffering=0)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdout), pipe)
        return ForkedProcess(pid, stdout)


@cache
def _parent() -> socket.socket:
    """Start the parent, which ends when its socket is closed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.warm_parent", str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        env={**ENVIRONMENT, **os.environ},
        process_group=0,
    )
    theirs.close()

    def stop() -> None:
        ours.close()
        process.wait()

    atexit.register(stop)
    return ours


_forking = threading.Lock()


def _fork(request: bytes, output: int) -> int:
    with _forking:  # a reply belongs to the request before it
        parent = _parent()
        socket.send_fds(parent, [request], [output])
        return int(parent.recv(64))


def main() -> None:
    """Fork a child for each request; returns in the child when its service has ended."""
    for module in _IMPORTED:
        importlib.import_module(module)
    # A child that collects garbage would copy every page with one of these objects.
    gc.collect()
    gc.freeze()

    requests = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are not awaited
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, _MAX_REQUEST, 1)
        if not request:
            return
        pid = os.fork()
        if not pid:
            requests.close()
            _become(json.loads(request), descriptors[0])
            return
        os.close(descriptors[0])
        requests.send(str(pid).encode())


def _milliseconds_ahead(request: dict[str, Any]) -> int:
    """How far the clock of a service is ahead, from TEST_CLOCKS: ``encoder_svc=80,tracker_svc=-50``."""
    clocks = dict(
        entry.split("=") for entry in request["environment"].get("TEST_CLOCKS", "").split(",") if entry
    )
    return int(clocks.get(request["module"], 0))


def _become(request: dict[str, Any], output: int) -> None:
    """Run a service in this process."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    os.environ.clear()
    os.environ.update(request["environment"])
    if request["cores"]:
        os.sched_setaffinity(0, request["cores"])
    random.seed()
    if ahead := _milliseconds_ahead(request):
        # A host of its own, whose clock is wrong.
        time_ns, host = time.time_ns, f"host-of-{request['module']}"
        time.time_ns = lambda: time_ns() + ahead * 1_000_000
        socket.gethostname = lambda: host
    sys.argv = [request["module"], *request["flags"]]
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
