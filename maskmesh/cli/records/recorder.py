"""Records a command's run: its windows, what the services used meanwhile, and a summary."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc

from maskmesh.cli.records.options import RecordOptions
from maskmesh.cli.run import say, warn
from maskmesh.client.async_client import AsyncClient
from maskmesh.errors import MaskmeshError
from maskmesh.records.budget import WindowRecord
from maskmesh.records.run_files import RunFiles
from maskmesh.records.summary import RunStatistics
from maskmesh.records.window_timer import WindowTimer
from maskmesh.scheduling.process_usage import process_usage
from maskmesh.status import MeshStatus
from maskmesh.types import FrameMasks

# How often the services are asked what they use.
USAGE_SECONDS = 1.0
# How long the end of a run may wait for the last of these answers.
LAST_USAGE_SECONDS = 1.0


class Recorder:
    """Records the results of a run; without a folder it only keeps the statistics."""

    def __init__(self, options: RecordOptions, command: str, files: RunFiles | None) -> None:
        self.statistics = RunStatistics()
        self._options = options
        self._command = command
        self._files = files
        self._start = time.perf_counter()
        self._peaks: dict[str, dict[str, int]] = {}
        self._mesh: MeshStatus | None = None

    def sequence(self, source: str = "") -> "RecordedSequence":
        """The records of one video or stream, whose lines have its name if there is one."""
        return RecordedSequence(self, WindowTimer(self._options.budget), source)

    def add_window(self, window: WindowRecord, source: str = "") -> None:
        """Add a window that is complete."""
        self.statistics.add_window(window)
        if self._files is not None:
            own = {"source": source} if source else {}
            self._files.write_window(own | window.to_json())

    def add_result(self, received: float, delivered: float, *, gated: bool = False) -> None:
        """Count a result; times are in seconds on one clock."""
        self.statistics.add_result(received, delivered, gated=gated)

    async def watch_usage(self, client: AsyncClient) -> None:
        """Record what the services use, again and again; moments in which the gateway does not answer are
        left out.
        """
        while True:
            with contextlib.suppress(MaskmeshError, grpc.RpcError):
                await self._record_usage(client)
            await asyncio.sleep(USAGE_SECONDS)

    async def finish(self, client: AsyncClient, extra: Mapping[str, Any]) -> None:
        """Write the summary, to which ``extra`` is added; without a folder, say how a budget was kept."""
        if self._files is None:
            run = self.statistics.summary()
            if run.ok_windows is not None and self._command != "stream":  # which has told it
                say(f"{run.ok_windows} of {run.windows} windows kept the budget")
            return
        with contextlib.suppress(MaskmeshError, grpc.RpcError, TimeoutError):
            async with asyncio.timeout(LAST_USAGE_SECONDS):
                await self._record_usage(client)
        self._files.write_summary(self._summary() | dict(extra))
        say(f"records: {self._options.folder}")

    def _summary(self) -> dict[str, Any]:
        content: dict[str, Any] = {"command": self._command, **self.statistics.summary().to_json()}
        if self._mesh is not None:
            models = {s.kind: s.model for s in self._mesh.services if s.model is not None}
            content["model_id"] = next((model.model_id for model in models.values()), "")
            content["parameters"] = {kind: model.parameters for kind, model in models.items()}
            content["devices"] = {
                kind: f"{model.device}, {model.dtype}, {model.threads} threads"
                for kind, model in models.items()
            }
            content["processor"] = next((s.usage.cpu_name for s in self._mesh.services if s.usage), "")
        content["peak_memory"] = self._peaks
        return content

    async def _record_usage(self, client: AsyncClient) -> None:
        self._mesh = mesh = await client.mesh()
        own = process_usage()
        line: dict[str, Any] = {"time_s": round(time.perf_counter() - self._start, 3)}
        used = {"command": {"resident_bytes": own.resident_bytes, "cpu_s": round(own.cpu_seconds, 3)}}
        self._peaks["command"] = {"resident_bytes": own.peak_resident_bytes}
        for name, service in zip(mesh.names(), mesh.services, strict=True):
            if service.usage is None:
                continue
            used[name] = {
                "resident_bytes": service.usage.resident_bytes,
                "cpu_s": round(service.usage.cpu_seconds, 3),
            }
            self._peaks[name] = {"resident_bytes": service.usage.peak_resident_bytes}
            if (device := service.device_memory) is not None:
                used[name]["device_bytes"] = device.allocated_bytes
                self._peaks[name]["device_bytes"] = device.peak_allocated_bytes
        if self._files is not None:
            self._files.write_usage(line | {"services": used})


class RecordedSequence:
    """The results of one video, image or stream, in order."""

    def __init__(self, recorder: Recorder, timer: WindowTimer, source: str) -> None:
        self._recorder = recorder
        self._timer = timer
        self._source = source
        self._previous = time.perf_counter()

    def restart(self) -> None:
        """The work for the next result begins now."""
        self._previous = time.perf_counter()

    def add(self, frame: FrameMasks) -> None:
        """Add a result that arrived now; the work for it began with the previous one."""
        self.add_call(frame.frame_index, frame.stage_seconds)

    def add_call(self, number: int, stage_seconds: Mapping[str, float]) -> None:
        """Add the result ``number``, which arrived now."""
        received, now = self._previous, time.perf_counter()
        self._previous = now
        self._recorder.add_result(received, now)
        window = self._timer.add(number, received, now, stage_seconds)
        if window is not None:
            self._recorder.add_window(window, self._source)


@asynccontextmanager
async def recording(
    options: RecordOptions, command: str, client: AsyncClient, extra: Mapping[str, Any] | None = None
) -> AsyncIterator[Recorder]:
    """Record a run, however it ends; ``extra`` is read at the end and added to the summary."""
    with contextlib.ExitStack() as stack:
        files = None if options.folder is None else stack.enter_context(RunFiles(options.folder))
        recorder = Recorder(options, command, files)
        watching = None if files is None else asyncio.ensure_future(recorder.watch_usage(client))
        try:
            yield recorder
        finally:
            if watching is not None:
                watching.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.gather(watching, return_exceptions=True)
            try:
                await recorder.finish(client, extra or {})
            except OSError as error:
                warn(f"the summary of the records cannot be written: {error}")
