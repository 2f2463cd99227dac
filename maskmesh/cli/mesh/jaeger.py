"""A Jaeger for the traces of a mesh on this machine: one that runs, or one that this process starts."""

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import sys
import urllib.request
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from maskmesh.cli.mesh.service_process import MeshError

UI_PORT = 16686
OTLP_PORT = 4317

START_SECONDS = 20.0
_POLL_SECONDS = 0.1
_PR_SET_PDEATHSIG = 1

# Traces that are kept in memory, about 31 KiB each.
MAX_TRACES = 20_000


@contextlib.asynccontextmanager
async def traced_to(jaeger: str) -> AsyncIterator[dict[str, str]]:
    """The variables with which services send their traces to a Jaeger.

    ``jaeger`` is the OTLP endpoint of one that runs, or the path of its executable, which is then started
    with a store in memory and stopped at the end.  Raises MeshError if it cannot be started.
    """
    path = Path(jaeger)
    if not path.is_file():
        if path.exists() or "/" in jaeger.partition("://")[2] or not jaeger.rpartition(":")[2].isdigit():
            raise MeshError(
                f"--jaeger {jaeger}: neither an executable nor an endpoint such as localhost:4317"
            )
        yield {"OTEL_EXPORTER_OTLP_ENDPOINT": jaeger if "://" in jaeger else f"http://{jaeger}"}
        return
    config = json.dumps(_config())
    try:
        process = await asyncio.create_subprocess_exec(
            path.absolute(),
            f"--config=yaml:{config}",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            process_group=0,
        )
    except OSError as error:
        raise MeshError(f"{jaeger} cannot be run: {error.strerror}") from error
    lines: deque[str] = deque(maxlen=5)
    reading = asyncio.ensure_future(_read(process, lines))
    try:
        await _wait_until_healthy(process, lines)
        yield {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{OTLP_PORT}"}
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGTERM)  # it may be a script that started Jaeger
        await process.wait()
        await reading


def _config() -> dict[str, Any]:
    """Jaeger with a store in memory, on loopback."""
    endpoint = "127.0.0.1:{}".format
    return {
        "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": endpoint(OTLP_PORT)}}}},
        "exporters": {"jaeger_storage_exporter": {"trace_storage": "memory"}},
        "extensions": {
            "jaeger_storage": {"backends": {"memory": {"memory": {"max_traces": MAX_TRACES}}}},
            "jaeger_query": {
                "storage": {"traces": "memory"},
                "http": {"endpoint": endpoint(UI_PORT)},
                "grpc": {"endpoint": endpoint(UI_PORT - 1)},
            },
        },
        "service": {
            "extensions": ["jaeger_storage", "jaeger_query"],
            "telemetry": {"metrics": {"level": "none"}, "traces": {"level": "none"}},
            "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["jaeger_storage_exporter"]}},
        },
    }


def _end_with_parent() -> None:
    """Ask Linux to end this process when its parent ends, however that ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


async def _read(process: asyncio.subprocess.Process, lines: deque[str]) -> None:
    assert process.stderr is not None, "the output is a pipe"
    async for line in process.stderr:
        lines.append(line.decode(errors="replace").rstrip())


async def _wait_until_healthy(process: asyncio.subprocess.Process, lines: deque[str]) -> None:
    try:
        async with asyncio.timeout(START_SECONDS):
            while not await asyncio.to_thread(_serves):
                if process.returncode is not None:
                    raise MeshError(f"Jaeger ended with status {process.returncode}:\n" + "\n".join(lines))
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        said = "\n".join(lines)
        raise MeshError(f"Jaeger does not answer after {START_SECONDS:.0f} s:\n{said}") from None


def _serves() -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{UI_PORT}/api/services", timeout=1).close()
    except OSError:
        return False
    return True
