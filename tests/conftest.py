"""Shared fixtures (a mesh of real processes, clips), and the check of skipped tests in CI."""

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

# Imported here because hypothesis would import it after the last test, when the import can fail in
# CPython 3.11 (python/cpython#106905).
import hypothesis.internal.observability
import pytest
import torch

from maskmesh import AsyncClient
from maskmesh.cli.mesh.local_mesh import MeshOptions
from tests.fresh_clips import write_fresh_clip
from tests.mesh import THREADS, Mesh, running_mesh
from tools.make_sample import make_clip

CLIP_FRAMES = 60

# The same as in the services, so that results are equal bit for bit.
torch.set_num_threads(THREADS)

# The only reasons for a skip that do not fail a run in CI.
_ALLOWED_SKIPS = (
    "test data is missing",
    "there is no Jaeger",
    "Go is not installed",
    "needs a GPU",
    "no matrix units",
    "buildah is not installed",
    "the previous version is not",
)
_skipped: list[str] = []

TESTS = Path(__file__).parent

# Training runs of several seconds each.
_LONG = {"train_micro/test_separation.py", "train_micro/test_training.py"}

# Tests with a service in their own process; tests in other folders than e2e and parity are unit tests.
_IN_PROCESS = {
    "encoder_svc/test_shared_cache.py",
    "gateway/test_lifecycle.py",
    "gateway/test_live.py",
    "gateway/test_propagation.py",
    "gateway/test_session_router.py",
    "maskmesh/test_streams.py",
    "tracker_svc/test_handover_machine.py",
    "tracker_svc/test_session_machine.py",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--moments", type=int, default=1, help="random moments for each case of test_chaos.py")
    parser.addoption("--image-base", help="base image for the test that builds the image")
    parser.addoption("--cases", type=int, default=600, help="number of random requests in test_fuzz.py")
    parser.addoption(
        "--examples", type=int, default=10, help="number of random sequences of each state machine"
    )


def pytest_configure(config: pytest.Config) -> None:
    hypothesis.settings.register_profile(
        "state machines",
        max_examples=config.getoption("--examples"),
        stateful_step_count=12,
        deadline=None,
        derandomize="CI" in os.environ,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "moment" in metafunc.fixturenames:
        metafunc.parametrize("moment", range(metafunc.config.getoption("moments")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its floor: see CONTRIBUTING.md."""
    for item in items:
        path = item.path.relative_to(TESTS)
        if path.parts[0] in ("e2e", "parity") or path.as_posix() in _LONG:
            floor = "mesh"
        elif path.as_posix() in _IN_PROCESS:
            floor = "in_process"
        else:
            floor = "unit"
        item.add_marker(floor)
    # Long files first, so that the processes which run the tests end at about the same time.
    items.sort(key=_length_rank)


def _length_rank(item: pytest.Item) -> int:
    """0 for files of the mesh floor, 1 for files that compute with a tracker, 2 for short files."""
    if item.get_closest_marker("mesh") is not None:
        return 0
    return 1 if item.path.parent.name == "tracker_svc" else 2


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(allowed in reason for allowed in _ALLOWED_SKIPS):
            _skipped.append(f"{report.nodeid}: {reason}")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if hasattr(session.config, "workerinput"):
        return  # the process that started the workers has all reports
    if os.environ.get("CI") and _skipped and exitstatus == 0:
        print("\nskipped in CI:\n" + "\n".join(_skipped), file=sys.stderr)
        session.exitstatus = 1


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
    """A clip of 60 frames, 640 x 360, with the scene of the sample clip."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    make_clip(path, CLIP_FRAMES)
    return path


@pytest.fixture
def fresh_clip(tmp_path: Path, clip: Path) -> Path:
    """A clip of 50 frames of which no cache has embeddings."""
    path = tmp_path / "fresh.mp4"
    write_fresh_clip(path, clip, 50)
    return path
