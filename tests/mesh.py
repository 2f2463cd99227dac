"""Meshes of real processes for tests, and their traces."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from maskmesh import telemetry
from maskmesh.cli.mesh.local_mesh import LocalMesh, MeshOptions
from maskmesh.cli.mesh.service_process import ServiceProcess
from maskmesh.trace_report.report import CALLS
from maskmesh.trace_report.trace_files import KIND_CLIENT, KIND_SERVER, Trace, group_traces, read_spans
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

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a service."""
        os.kill(self.pid(name), number)

    async def restart(self, name: str, *, code: Path | None = None) -> None:
        """Stop a service, if it has not ended, and start it again on its port; returns when it is ready."""
        process = self._processes[name]
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
            traces = {t.trace_id: t for t in group_traces(read_spans(self.traces))}
            if wanted <= traces.keys() and all(_is_complete(traces[i], spans) for i in wanted):
                return {i: traces[i] for i in wanted}
            assert time.monotonic() < deadline, "the services did not export the spans in time"
            await asyncio.sleep(0.05)

    def all_traces(self) -> list[Trace]:
        """The traces that were exported so far."""
        return group_traces(read_spans(self.traces))


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
