"""Meshes of real processes for tests, and their traces."""

import asyncio
import logging
import os
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from maskmesh import telemetry
from maskmesh.cli.mesh.local_mesh import LocalMesh, MeshOptions
from maskmesh.cli.mesh.service_process import ServiceProcess
from maskmesh.trace_report.report import CALLS
from maskmesh.trace_report.trace_files import (
    KIND_CLIENT,
    KIND_SERVER,
    Span,
    Trace,
    group_traces,
    spans_of_line,
    trace_files,
)
from maskmesh.types import DTypeSetting
from tests.warm_parent import WarmServiceProcess

# One thread in each process, so that results are equal bit for bit.
THREADS = 1

log = logging.getLogger("mesh")


class BreakableMesh(LocalMesh):
    """A mesh whose services a test can kill, stop and restart.

    ``code`` is a folder with another version of the packages, which the services then run.
    """

    process_type = WarmServiceProcess

    def __init__(
        self, options: MeshOptions, *, log: Callable[[str, str], None] | None = None, code: Path | None = None
    ) -> None:
        super().__init__(options, log=log)
        self._code = code
        self._broken: dict[str, signal.Signals] = {}

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a service."""
        os.kill(self.pid(name), number)
        self._broken[name] = number

    async def mend(self) -> None:
        """Continue or restart all services that were sent a signal."""
        for name, number in self._broken.items():
            if number is signal.SIGSTOP:
                os.kill(self.pid(name), signal.SIGCONT)
        for name, number in list(self._broken.items()):
            if number not in (signal.SIGSTOP, signal.SIGCONT):
                await self.restart(name)
        self._broken.clear()

    async def restart(self, name: str, *, code: Path | None = None) -> None:
        """Stop a service, if it has not ended, and start it again on its port; returns when it is ready."""
        process = self._processes[name]
        self._broken.pop(name, None)
        await process.stop()
        await process.start(self._environment, folder=code)
        await self._wait_ready(name)

    async def _start_process(self, process: ServiceProcess) -> None:
        # Python looks for modules in the working directory first.
        await process.start(self._environment, folder=self._code)


@dataclass(slots=True)
class Mesh:
    """A running mesh, and the folder of its traces."""

    local: BreakableMesh
    traces: Path
    _reader: "_TraceReader" = field(init=False)

    def __post_init__(self) -> None:
        self._reader = _TraceReader(self.traces)

    @property
    def endpoint(self) -> str:
        return self.local.endpoint

    def address(self, service: str) -> str:
        return f"127.0.0.1:{self.local.ports[service]}"

    async def complete_traces(self, ids: Iterable[str], spans: Collection[str] = ()) -> dict[str, Trace]:
        """Wait until all services have exported the spans of these traces; returns the traces by id.

        ``spans`` are names that each trace has in the end: spans without children may be exported after all
        others.
        """
        wanted = set(ids)
        deadline = time.monotonic() + 20
        while True:
            traces = {t.trace_id: t for t in self._reader.traces(wanted)}
            if wanted == traces.keys() and all(_is_complete(t, spans) for t in traces.values()):
                return traces
            assert time.monotonic() < deadline, "the services did not export the spans in time"
            await asyncio.sleep(0.05)

    def all_traces(self) -> list[Trace]:
        """The traces that were exported so far."""
        return self._reader.traces()


class _TraceReader:
    """Reads the trace files of a folder, each line once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {}
        """Number of bytes that were read of each file."""
        self._spans: dict[str, list[Span]] = defaultdict(list)

    def traces(self, ids: Collection[str] | None = None) -> list[Trace]:
        """The traces that were exported so far, those with these ids or all."""
        for path in trace_files(self._folder):
            with path.open("rb") as file:
                start = self._read.get(path, 0)
                if path.stat().st_size < start:
                    start = 0  # a file that reached its maximum size starts again
                file.seek(start)
                lines, end, _ = file.read().rpartition(b"\n")
            self._read[path] = start + len(lines) + len(end)
            for line in lines.decode().splitlines():
                for span in spans_of_line(line):
                    self._spans[span.trace_id].append(span)
        chosen = self._spans if ids is None else ids
        return group_traces(span for i in chosen for span in self._spans.get(i, ()))


def _is_complete(trace: Trace, spans: Collection[str]) -> bool:
    """Whether all parent and server spans are exported, those with these names, and the postprocess span of a
    call with masks.
    """
    if not {s.name for s in trace.spans.values()}.issuperset(spans):
        return False
    if any(s.parent_id and s.parent_id not in trace.spans for s in trace.spans.values()):
        return False
    called = {s.parent_id for s in trace.spans.values() if s.kind == KIND_SERVER}
    if any(s.kind == KIND_CLIENT and s.span_id not in called for s in trace.spans.values()):
        return False
    if trace.root.name.rsplit("/", 1)[-1] not in (telemetry.FRAME, *CALLS):
        return True
    last = (telemetry.POSTPROCESS, telemetry.OPTICAL_FLOW, telemetry.POINT_REFINE)
    return any(s.name in last for s in trace.spans.values())


@asynccontextmanager
async def running_mesh(
    traces: Path, options: MeshOptions, *, code: Path | None = None, **environment: str
) -> AsyncIterator[Mesh]:
    """A mesh with single-threaded services whose traces go to files.

    The defaults are float32 and a batch size of 1, so that results are equal bit for bit on any machine.
    Spans are exported every 50 ms, so that a test does not wait a second for a trace.
    """
    everywhere = {
        "MASKMESH_TRACE_DIR": str(traces),
        "OTEL_EXPORTER_OTLP_ENDPOINT": "",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    dtype: DTypeSetting = "float32" if options.dtype == "auto" else options.dtype
    options = replace(
        options,
        threads=THREADS,
        dtype=dtype,
        max_batch=options.max_batch or 1,
        environment=everywhere | environment,
    )
    mesh = BreakableMesh(options, log=lambda name, line: log.info("%s: %s", name, line), code=code)
    async with mesh as local:
        yield Mesh(local, traces)
