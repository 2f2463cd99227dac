"""Leases of sessions at the gateway."""

import asyncio
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from gateway.sessions import lifecycle
from maskmesh import SessionNotFound
from maskmesh.v1 import segmentation_pb2, segmentation_pb2_grpc
from tests.gateway.in_process import InProcess, image, running_gateway


async def test_an_unused_session_ends_and_frees_its_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "SWEEP_SECONDS", 0.05)
    async with running_gateway(tmp_path) as gateway:
        session = await gateway.client.create_session(ttl=timedelta(seconds=0.2))
        await session.append_frames([image(0)])
        assert any(path.is_file() and path.name != "lock" for path in tmp_path.rglob("*"))
        [tracker] = gateway.trackers
        while session.session_id in tracker.sessions:
            await asyncio.sleep(0.02)
        with pytest.raises(SessionNotFound):
            await session.get_state()
        assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["lock"]


async def test_a_propagation_keeps_its_session_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "SWEEP_SECONDS", 0.05)
    async with running_gateway(tmp_path) as gateway:
        session = await gateway.client.create_session(ttl=timedelta(seconds=1))
        await session.append_frames([image(0), image(1)])
        await session.add_prompt(0, 1, points=[(3, 3)])
        [tracker] = gateway.trackers
        tracker.permits = asyncio.Semaphore(1)
        frames = aiter(session.propagate())
        await anext(frames)
        await asyncio.sleep(1.6)
        tracker.permits.release()
        assert (await anext(frames)).frame_index == 1


async def test_a_full_gateway_refuses_sessions_until_one_ends(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, max_sessions=1) as gateway:
        session = await gateway.client.create_session()
        async with grpc.aio.insecure_channel(gateway.address) as channel:
            stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await stub.CreateSession(segmentation_pb2.CreateSessionRequest())
            assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            await session.delete()
            await stub.CreateSession(segmentation_pb2.CreateSessionRequest())


async def test_the_longest_lease_is_the_gateways(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, session_ttl_seconds=2.0) as gateway:
        session = await gateway.client.create_session(ttl=timedelta(hours=1))
        assert (await session.get_state()).ttl == timedelta(seconds=2)


async def test_a_repeated_creation_returns_the_first_session(gateway: InProcess) -> None:
    request = segmentation_pb2.CreateSessionRequest(idempotency_key="a")
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
        first, second = [await stub.CreateSession(request) for _ in range(2)]
    assert first.session_id == second.session_id
    [tracker] = gateway.trackers
    assert list(tracker.sessions) == [first.session_id]
