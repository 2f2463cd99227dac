"""Lost embeddings are encoded again, and aborted calls leave no state."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from maskmesh import AsyncClient, FrameMasks, InvalidRequest, SessionLost, SessionNotFound, VideoSession
from maskmesh.cli.mesh.local_mesh import MeshOptions
from maskmesh.internal.v1 import tracker_pb2, tracker_pb2_grpc
from maskmesh.rpc.status import translate_rpc_errors
from maskmesh.v1 import segmentation_pb2, segmentation_pb2_grpc
from tests.mesh import Mesh, running_mesh


@pytest.fixture(scope="module")
async def forgetful_mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    """A mesh whose caches hold eight embeddings in the encoder and four in the tracker."""
    flags = {
        "encoder": ["--cache-bytes", str(4 * 2**20)],
        "tracker": ["--embedding-bytes", str(2 * 2**20)],
    }
    async with running_mesh(tmp_path_factory.mktemp("traces"), MeshOptions(flags=flags)) as mesh:
        yield mesh


async def propagate(session: VideoSession, frames: int) -> list[FrameMasks]:
    return [f async for f in session.propagate(start_frame_index=0, max_frames=frames)]


@pytest.mark.parametrize("frames", [2, 12])
async def test_evicted_embeddings_are_encoded_again(
    client: AsyncClient, forgetful_mesh: Mesh, clip: Path, frames: int
) -> None:
    """Includes embeddings of prompted frames and of the last frames of a propagation."""

    async def run(connected: AsyncClient, *, forget: bool) -> list[FrameMasks]:
        async with connected.session() as session, connected.session() as other:
            await session.append_video(clip)
            await other.append_video(clip)
            await session.add_prompt(0, 1, points=[(110, 262)])
            await session.add_prompt(1, 2, points=[(530, 185)])
            if forget:
                for index in range(20, 30):
                    await other.add_prompt(index, 1, points=[(5, 5)])
            return await asyncio.wait_for(propagate(session, frames), 60)

    undisturbed = await run(client, forget=False)
    async with AsyncClient(forgetful_mesh.endpoint) as forgetful:
        disturbed = await run(forgetful, forget=True)
    assert [f.objects for f in disturbed] == [f.objects for f in undisturbed]
    needed = [
        trace
        for trace in (await forgetful_mesh.complete_traces(f.trace_id for f in disturbed)).values()
        if sum(s.name == "image_encoder" for s in trace.spans.values()) > 0
    ]
    assert needed


async def test_click_on_an_evicted_frame_encodes_it_again(forgetful_mesh: Mesh, fresh_clip: Path) -> None:
    async with AsyncClient(forgetful_mesh.endpoint) as client, client.session() as session:
        await session.append_video(fresh_clip)
        first = await session.add_prompt(0, 1, points=[(110, 262)])
        for index in range(1, 12):
            await session.add_prompt(index, 2, points=[(5, 5)])
        again = await session.add_prompt(0, 3, points=[(110, 262)])
    assert again.objects[3].mask == first.objects[1].mask


async def test_missing_session_raises_session_lost(mesh: Mesh, client: AsyncClient, clip: Path) -> None:
    session = await client.create_session()
    await session.append_video(clip)
    await session.add_prompt(0, 1, points=[(5, 5)])
    async with grpc.aio.insecure_channel(mesh.address("tracker")) as channel:
        stub = tracker_pb2_grpc.TrackerServiceStub(channel)
        await stub.DeleteSession(tracker_pb2.DeleteSessionRequest(session_id=session.session_id, epoch=1))
    with pytest.raises(SessionLost):
        await session.add_prompt(0, 1, points=[(5, 5)])
    # The session keeps its frames.
    await session.add_prompt(0, 1, points=[(5, 5)])
    await session.delete()


async def test_aborted_upload_adds_no_frames(mesh: Mesh, client: AsyncClient, clip: Path) -> None:
    chunk = clip.read_bytes()

    async def break_off(stub: Any, session_id: str, how: int) -> None:
        call = stub.AppendFrames(timeout=0.3 if how == 0 else None)
        config = segmentation_pb2.AppendFramesConfig(session_id=session_id)
        await call.write(segmentation_pb2.AppendFramesRequest(config=config))
        await call.write(segmentation_pb2.AppendFramesRequest(video_chunk=chunk))
        if how == 0:
            with pytest.raises(grpc.aio.AioRpcError):
                await call
        elif how == 1:
            await asyncio.sleep(0.02)
            call.cancel()
        else:
            await call.done_writing()
            with pytest.raises(InvalidRequest), translate_rpc_errors():
                await call

    async with client.session() as session:
        for how in itertools.islice(itertools.cycle(range(3)), 9):
            async with grpc.aio.insecure_channel(mesh.endpoint) as channel:
                stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
                await break_off(stub, session.session_id, how)
        # If an aborted upload had added frames, the gateway would refuse this video.
        assert await session.append_video(clip) == 60


async def test_cancelled_upload_releases_the_session(client: AsyncClient, clip: Path) -> None:
    async with client.session() as session:
        task = asyncio.ensure_future(session.append_video(clip))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.wait_for(session.append_video(clip), 20) == 60


async def test_deleting_a_session_ends_its_propagation(client: AsyncClient, clip: Path) -> None:
    session = await client.create_session()
    await session.append_video(clip)
    await session.add_prompt(0, 1, points=[(110, 262)])
    frames = session.propagate()
    await anext(frames)
    await session.delete()
    with pytest.raises(SessionNotFound):
        async for _ in frames:
            pass
