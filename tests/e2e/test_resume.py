"""Slow, interrupted and abandoned clients; resume tokens."""

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from maskmesh import (
    AsyncClient,
    FrameMasks,
    InvalidRequest,
    MaskFormat,
    MaskOptions,
    PromptRecord,
    SessionBusy,
    VideoSession,
)
from maskmesh.cli.mesh.local_mesh import MeshOptions
from maskmesh.internal.v1 import encoder_pb2, encoder_pb2_grpc
from maskmesh.rpc.status import translate_rpc_errors
from maskmesh.v1 import segmentation_pb2, segmentation_pb2_grpc
from maskmesh.wire import frame_masks_from_proto, mask_options_to_proto
from tests.mesh import Mesh, running_mesh

WHEEL = (110, 262)


@pytest.fixture
async def stub(mesh: Mesh) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(mesh.endpoint) as channel:
        yield segmentation_pb2_grpc.SegmentationServiceStub(channel)


async def prompted(client: AsyncClient, clip: Path) -> VideoSession:
    session = await client.create_session()
    await session.append_video(clip)
    await session.add_prompt(10, 1, points=[WHEEL])
    return session


@pytest.mark.parametrize("reverse", [False, True])
async def test_resume_token_continues_with_the_next_frame(
    stub: Any, client: AsyncClient, clip: Path, *, reverse: bool
) -> None:
    session = await prompted(client, clip)
    direction = "DIRECTION_REVERSE" if reverse else "DIRECTION_FORWARD"
    request = segmentation_pb2.PropagateVideoRequest(
        session_id=session.session_id,
        max_frames=9,
        direction=direction,
    )
    whole = [frame_masks_from_proto(r.frame) async for r in stub.PropagateVideo(request)]
    found: list[FrameMasks] = []
    pieces = 0
    while True:
        pieces += 1
        call = stub.PropagateVideo(request)
        async for response in call:
            found.append(frame_masks_from_proto(response.frame))
            request = segmentation_pb2.PropagateVideoRequest(
                session_id=session.session_id, resume_token=response.resume_token
            )
            if len(found) % 4 == 0:
                # The call is not cancelled, so the gateway still sees an open stream.
                break
        else:
            break
    assert pieces == 3
    assert [f.frame_index for f in found] == [f.frame_index for f in whole]
    assert [f.objects for f in found] == [f.objects for f in whole]
    assert len(found) == 9
    await session.delete()


async def test_invalid_resume_tokens_are_refused(stub: Any, client: AsyncClient, clip: Path) -> None:
    session, other = await prompted(client, clip), await prompted(client, clip)
    token = f"{session.session_id}.3.9.1"
    for wrong, field in (
        ({"resume_token": "nonsense"}, "resume_token"),
        ({"resume_token": f"{session.session_id}.3.9.2"}, "resume_token"),
        ({"resume_token": f"{session.session_id}.-1000000000000.9.1.0."}, "resume_token"),
        ({"resume_token": f"{session.session_id}.3.9.1.-5."}, "resume_token"),
        ({"resume_token": f"{session.session_id}.3.9000000000000.1"}, "resume_token"),
        ({"resume_token": f"{session.session_id}.3.900.1"}, "resume_token"),
        ({"resume_token": f"{other.session_id}.3.9.1"}, "resume_token"),
        ({"resume_token": token, "max_frames": 3}, "max_frames"),
        ({"resume_token": token, "start_frame_index": 0}, "start_frame_index"),
        ({"resume_token": token, "direction": "DIRECTION_REVERSE"}, "direction"),
    ):
        request = segmentation_pb2.PropagateVideoRequest(session_id=session.session_id, **wrong)
        with pytest.raises(InvalidRequest) as caught, translate_rpc_errors():
            async for _ in stub.PropagateVideo(request):
                pass
        assert caught.value.field == field
    await session.delete()
    await other.delete()


async def test_open_stream_is_not_interrupted_without_a_token(client: AsyncClient, clip: Path) -> None:
    session = await prompted(client, clip)
    first = session.propagate()
    await anext(first)
    with pytest.raises(SessionBusy):
        await anext(session.propagate())
    assert (await anext(first)).frame_index == 11
    await first.aclose()
    await session.delete()


class Gateway:
    """A proxy in front of the real gateway that can abort all connections at once."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._lines: set[asyncio.StreamWriter] = set()
        self._sent = 0

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        self._lines |= {writer, back}
        await asyncio.gather(
            self._pass(reader, back, counts=True), self._pass(there, writer), return_exceptions=True
        )

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counts: bool = False
    ) -> None:
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
            self._sent += len(data) if counts else 0
        writer.close()

    async def passed_on(self, count: int) -> None:
        """Wait until ``count`` more bytes have been sent to the gateway."""
        wanted = self._sent + count
        while self._sent < wanted:
            await asyncio.sleep(0.001)

    def cut(self) -> None:
        """Abort every connection."""
        for line in self._lines:
            line.transport.abort()
        self._lines.clear()

    async def stop(self) -> None:
        self.cut()
        self._server.close()
        await self._server.wait_closed()


async def test_client_resumes_after_a_broken_connection(mesh: Mesh, client: AsyncClient, clip: Path) -> None:
    async with client.session() as session:
        await session.append_video(clip)
        await session.add_prompt(0, 1, points=[WHEEL])
        whole = [frame async for frame in session.propagate(max_frames=30)]
    line = Gateway(mesh.local.ports["gateway"])
    async with AsyncClient(f"127.0.0.1:{await line.start()}") as shaky, shaky.session() as session:
        await session.append_video(clip)
        await session.add_prompt(0, 1, points=[WHEEL])
        found = []
        async for frame in session.propagate(max_frames=30):
            found.append(frame)
            if frame.frame_index in (3, 11, 12):
                line.cut()
        # The client retries a click whose response is lost, and the server applies it once.
        click = asyncio.ensure_future(session.add_prompt(0, 2, points=[(530, 185)]))
        await line.passed_on(200)
        line.cut()
        await click
        state = await session.get_state()
        said = [entry for entry in state.history if isinstance(entry, PromptRecord)]
        assert (state.revision, len(said)) == (2, 2)
    await line.stop()
    assert [f.frame_index for f in found] == list(range(30))
    assert [f.objects for f in found] == [f.objects for f in whole]


async def test_slow_reader_stops_read_ahead(mesh: Mesh, client: AsyncClient, fresh_clip: Path) -> None:
    # gRPC buffers up to its flow-control window for a reader: 64 KiB here, four frames of logits.
    options = [("grpc.http2.bdp_probe", 0)]
    async with (
        grpc.aio.insecure_channel(mesh.address("encoder")) as channel,
        grpc.aio.insecure_channel(mesh.endpoint, options=options) as slow,
    ):
        encoder = encoder_pb2_grpc.EncoderServiceStub(channel)

        async def encoded() -> int:
            answer = await encoder.GetCacheStatistics(encoder_pb2.GetCacheStatisticsRequest())
            return int(answer.misses)

        async with client.session() as session:
            await session.append_video(fresh_clip)
            await session.add_prompt(0, 1, points=[WHEEL])
            before = await encoded()
            request = segmentation_pb2.PropagateVideoRequest(
                session_id=session.session_id,
                mask_options=mask_options_to_proto(MaskOptions(MaskFormat.LOW_RES_LOGITS)),
            )
            stub = segmentation_pb2_grpc.SegmentationServiceStub(slow)
            call = stub.PropagateVideo(request)
            await call.read()
            await asyncio.sleep(1.5)
            first = await encoded() - before
            await asyncio.sleep(1.0)
            assert await encoded() - before == first
            assert first < 20
            call.cancel()


@pytest.fixture(scope="module")
async def small_mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Mesh, Path]]:
    """A mesh for at most 40 sessions, and the folder of its session files."""
    data = tmp_path_factory.mktemp("data")
    flags = {
        "tracker": ["--data-dir", str(data), "--max-sessions", "40"],
        "gateway": ["--data-dir", str(data), "--max-sessions", "40"],
    }
    async with running_mesh(tmp_path_factory.mktemp("traces"), MeshOptions(flags=flags)) as mesh:
        yield mesh, data


def files(folder: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(folder))


async def test_abandoned_sessions_leave_no_files_or_pins(small_mesh: tuple[Mesh, Path], clip: Path) -> None:
    mesh, data = small_mesh
    before = files(data)

    async def abandon(client: AsyncClient) -> None:
        session = await client.create_session(ttl=timedelta(seconds=2))
        await session.append_video(clip)
        await session.add_prompt(0, 1, points=[WHEEL])
        frames = session.propagate()
        for _ in range(6):
            await anext(frames)
        await frames.aclose()

    for _ in range(2):
        async with AsyncClient(mesh.endpoint) as client:
            await asyncio.gather(*(abandon(client) for _ in range(3)))
    assert files(data) > before
    async with grpc.aio.insecure_channel(mesh.address("encoder")) as channel:
        encoder = encoder_pb2_grpc.EncoderServiceStub(channel)
        for _ in range(150):
            statistics = await encoder.GetCacheStatistics(encoder_pb2.GetCacheStatisticsRequest())
            if files(data) == before and not statistics.pinned_bytes:
                break
            await asyncio.sleep(0.1)
    assert files(data) == before
    assert statistics.pinned_bytes == 0
    # The mesh accepts its maximum number of sessions again.
    async with AsyncClient(mesh.endpoint) as client:
        sessions = [await client.create_session() for _ in range(40)]
        for session in sessions:
            await session.delete()
