"""What tests share: a mesh of real processes, clips, spans; and CI's rule on skipped tests."""

import asyncio
import itertools
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

# Its plugin would import it after the last test, when CPython 3.11 may fail (python/cpython#106905).
import hypothesis.internal.observability  # noqa: F401
import pytest
import torch

from maskmesh import AsyncClient, telemetry
from maskmesh.cli.local_mesh import LocalMesh, MeshOptions
from maskmesh.nn.dtype import DTypeSetting
from maskmesh.trace_report.trace_files import KIND_CLIENT, KIND_SERVER, Trace, group_traces, read_spans
from tools.make_sample import make_clip

CLIP_FRAMES = 60

log = logging.getLogger("mesh")
_seeds = itertools.count(100)

# One thread in each process, here and in the services: results can then be equal to the bit.
THREADS = 1
torch.set_num_threads(THREADS)

# In CI a test is skipped only for what CI cannot have.
_ALLOWED_SKIPS = (
    "test data is missing",
    "needs a GPU",
    "buildah is not at hand",
    "the version before is not",
)
_skipped: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--moments", type=int, default=1, help="how many moments something ends at, in tests of chaos"
    )
    parser.addoption("--image-base", help="image on which ours is built, in the test that does so")
    parser.addoption("--cases", type=int, default=600, help="how many requests are wrong in random ways")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "moment" in metafunc.fixturenames:
        metafunc.parametrize("moment", range(metafunc.config.getoption("moments")))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(allowed in reason for allowed in _ALLOWED_SKIPS):
            _skipped.append(f"{report.nodeid}: {reason}")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if os.environ.get("CI") and _skipped and exitstatus == 0:
        print("\nskipped in CI:\n" + "\n".join(_skipped), file=sys.stderr)
        session.exitstatus = 1


@dataclass(slots=True)
class Mesh:
    """A running mesh and where its traces go."""

    local: LocalMesh
    traces: Path

    @property
    def endpoint(self) -> str:
        return self.local.endpoint

    def address(self, service: str) -> str:
        return f"127.0.0.1:{self.local.ports[service]}"

    async def complete_traces(self, ids: Iterable[str]) -> dict[str, Trace]:
        """Traces by id, as soon as all services have exported their part, about once a second."""
        wanted = set(ids)
        deadline = time.monotonic() + 20
        while True:
            found = {t.trace_id: t for t in group_traces(read_spans(self.traces))}
            if wanted <= found.keys() and all(_is_complete(found[i]) for i in wanted):
                return {i: found[i] for i in wanted}
            assert time.monotonic() < deadline, "the spans did not arrive"
            await asyncio.sleep(0.2)

    def all_traces(self) -> list[Trace]:
        """What was exported up to now."""
        return group_traces(read_spans(self.traces))


def _is_complete(trace: Trace) -> bool:
    """Nothing hangs in the air, and what ends in masks has them."""
    if any(s.parent_id and s.parent_id not in trace.spans for s in trace.spans.values()):
        return False
    called = {s.parent_id for s in trace.spans.values() if s.kind == KIND_SERVER}
    if any(s.kind == KIND_CLIENT and s.span_id not in called for s in trace.spans.values()):
        return False
    if trace.root.name.rsplit("/", 1)[-1] not in (telemetry.FRAME, "AddPrompt", "SegmentImage"):
        return True
    return any(s.name == telemetry.POSTPROCESS for s in trace.spans.values())


@asynccontextmanager
async def running_mesh(traces: Path, options: MeshOptions, **environment: str) -> AsyncIterator[Mesh]:
    """A mesh with single-threaded services whose traces go to files.

    In float32 and one by one where a test does not ask for anything else, so that results are equal to the
    bit, and on any machine.
    """
    everywhere = {"MASKMESH_TRACE_DIR": str(traces), "OTEL_EXPORTER_OTLP_ENDPOINT": ""}
    dtype: DTypeSetting = "float32" if options.dtype == "auto" else options.dtype
    options = replace(
        options,
        threads=THREADS,
        dtype=dtype,
        max_batch=options.max_batch or 1,
        environment=everywhere | environment,
    )
    async with LocalMesh(options, log=lambda name, line: log.info("%s: %s", name, line)) as local:
        yield Mesh(local, traces)


@pytest.fixture(scope="session")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    """A mesh with the embedded model, shared by all tests that do not disturb it."""
    async with running_mesh(tmp_path_factory.mktemp("traces"), MeshOptions()) as running:
        yield running


@pytest.fixture
async def client(mesh: Mesh) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(mesh.endpoint, timeout=60) as connected:
        yield connected


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The story of the sample clip in 60 frames, 640 x 360."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    make_clip(path, CLIP_FRAMES)
    return path


@pytest.fixture
def fresh_clip(tmp_path: Path) -> Path:
    """A clip of 50 frames that no cache has seen."""
    path = tmp_path / "fresh.mp4"
    make_clip(path, 50, seed=next(_seeds))
    return path
