"""Encoder and tracker pass embeddings in shared memory if both can open it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from maskmesh import AsyncClient, FrameMasks, telemetry
from maskmesh.cli.mesh.local_mesh import MeshOptions
from maskmesh.storage.shared_memory import SHARED_MEMORY_PREFIX
from maskmesh.trace_report.trace_files import KIND_SERVER
from tests.mesh import Mesh, running_mesh

FRAMES = 12


async def track(client: AsyncClient, clip: Path) -> list[FrameMasks]:
    async with client.session() as session:
        await session.append_video(clip)
        await session.add_prompt(0, 1, points=[(110, 262)])
        return [frame async for frame in session.propagate(max_frames=FRAMES)]


async def shared(mesh: Mesh, frames: list[FrameMasks]) -> list[bool]:
    """For each frame but the first, whether the tracker read its embedding from shared memory."""
    found = []
    for trace in (await mesh.complete_traces(f.trace_id for f in frames[1:])).values():
        fetches = [s for s in trace.spans.values() if s.name == telemetry.FETCH_EMBEDDING]
        # A tracker that receives the bytes by gRPC has called Fetch.
        asked = [s for s in trace.spans.values() if s.name.endswith("/Fetch") and s.kind == KIND_SERVER]
        assert asked or all(s.attributes[telemetry.SHARED_MEMORY] for s in fetches)
        found += [bool(s.attributes[telemetry.SHARED_MEMORY]) for s in fetches]
        assert all(s.attributes[telemetry.BYTES] for s in fetches)
    assert len(found) == len(frames) - 1
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "memory"


@pytest.fixture
async def sharing_mesh(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> AsyncIterator[Mesh]:
    """A mesh whose encoder has space for eight embeddings, so that blocks are reused."""
    flags = {
        "encoder": ["--shared-memory-dir", str(folder), "--cache-bytes", str(4 * 2**20)],
        "tracker": ["--shared-memory-dir", str(folder)],
    }
    async with running_mesh(tmp_path_factory.mktemp("traces"), MeshOptions(flags=flags)) as mesh:
        yield mesh


async def test_shared_memory_does_not_change_masks(
    client: AsyncClient, mesh: Mesh, sharing_mesh: Mesh, fresh_clip: Path, folder: Path
) -> None:
    async with AsyncClient(sharing_mesh.endpoint) as other:
        found = await track(other, fresh_clip)
    assert all(await shared(sharing_mesh, found))
    assert [f.objects for f in found] == [f.objects for f in await track(client, fresh_clip)]


async def test_tracker_without_access_fetches_by_grpc(
    client: AsyncClient,
    tmp_path_factory: pytest.TempPathFactory,
    fresh_clip: Path,
    tmp_path: Path,
    folder: Path,
) -> None:
    flags = {
        "encoder": ["--shared-memory-dir", str(folder)],
        "tracker": ["--shared-memory-dir", str(tmp_path)],
    }
    async with (
        running_mesh(tmp_path_factory.mktemp("traces"), MeshOptions(flags=flags)) as mesh,
        AsyncClient(mesh.endpoint) as other,
    ):
        found = await track(other, fresh_clip)
        assert not any(await shared(mesh, found))
    assert [f.objects for f in found] == [f.objects for f in await track(client, fresh_clip)]


async def test_shared_memory_is_disabled_without_a_folder(
    tmp_path_factory: pytest.TempPathFactory, fresh_clip: Path
) -> None:
    flags = {"encoder": ["--shared-memory-dir", ""]}
    async with (
        running_mesh(tmp_path_factory.mktemp("traces"), MeshOptions(flags=flags)) as mesh,
        AsyncClient(mesh.endpoint) as other,
    ):
        assert not any(await shared(mesh, await track(other, fresh_clip)))


async def test_memory_of_a_killed_encoder_is_swept_at_start(
    tmp_path_factory: pytest.TempPathFactory, folder: Path
) -> None:
    flags = {"encoder": ["--shared-memory-dir", str(folder)]}
    options = MeshOptions(flags=flags)

    def left() -> list[Path]:
        return list(folder.glob(f"{SHARED_MEMORY_PREFIX}*"))

    async with running_mesh(tmp_path_factory.mktemp("traces"), options) as mesh:
        killed = left()
        assert len(killed) == 2  # one for each model
        os.kill(mesh.local.pid("encoder"), signal.SIGKILL)
        await asyncio.sleep(0.5)
        assert left() == killed
    async with running_mesh(tmp_path_factory.mktemp("traces"), options):
        assert len(left()) == 2
        assert not set(left()) & set(killed)
    assert not left()
