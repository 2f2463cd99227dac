"""API keys: calls without a valid key are refused, and tenants are isolated from each other."""

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from gateway.api_keys import ApiKeys
from maskmesh import (
    AsyncClient,
    Client,
    Point,
    Prompt,
    ResourceExhausted,
    SessionNotFound,
    Unauthenticated,
    wire,
)
from maskmesh.cli.mesh.local_mesh import MeshOptions
from maskmesh.media.pictures import as_image
from maskmesh.rpc.status import translate_rpc_errors
from maskmesh.v1 import segmentation_pb2, segmentation_pb2_grpc
from tests.mesh import Mesh, running_mesh

PICTURE = np.zeros((48, 64, 3), np.uint8)


def entry(name: str, **settings: object) -> str:
    """An entry of the key file; the key is the name repeated twice."""
    digest = hashlib.sha256((2 * name).encode()).hexdigest()
    lines = [f'name = "{name}"', f'sha256 = "{digest}"', *(f"{k} = {v!r}" for k, v in settings.items())]
    return "\n".join(["[[key]]", *lines, ""])


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys.toml"
    path.write_text(
        entry("one")
        + entry("mate", tenant="one")
        + entry("other", max_sessions=1, max_bytes=20_000)
        + entry("slow", frames_per_second=2.0)
        + entry("brisk", frames_per_second=6.0)
        + entry("big", max_bytes=45_000)
    )
    return path


@pytest.fixture(scope="module")
async def locked(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> AsyncIterator[Mesh]:
    flags = {"gateway": ["--keys", str(keys)]}
    async with running_mesh(tmp_path_factory.mktemp("traces"), MeshOptions(flags=flags)) as mesh:
        yield mesh


def client(mesh: Mesh, name: str) -> AsyncClient:
    return AsyncClient(mesh.endpoint, timeout=30, api_key=2 * name)


@pytest.mark.parametrize("key", ["", "one", "oneone ", "wrong"])
async def test_calls_without_a_valid_key_are_refused(locked: Mesh, key: str) -> None:
    async with AsyncClient(locked.endpoint, api_key=key) as unknown:
        with pytest.raises(Unauthenticated):
            await unknown.create_session()
        with pytest.raises(Unauthenticated):
            await unknown.segment_image(PICTURE, {1: Prompt([Point(1, 1)])})
        with pytest.raises(Unauthenticated):
            async with unknown.stream():
                pass


async def test_all_calls_work_with_a_key(locked: Mesh, fresh_clip: Path) -> None:
    async with client(locked, "one") as one, one.session() as session:
        await session.append_video(fresh_clip)
        await session.add_prompt(0, 1, points=[(110, 262)])
        assert len([f async for f in session.propagate(max_frames=3)]) == 3
        async with one.stream() as stream:
            await stream.send(PICTURE)
            await stream.add_prompt(1, points=[(5, 5)])
    with Client(locked.endpoint, api_key="oneone") as blocking, blocking.session() as session:
        assert session.session_id


async def test_sessions_are_isolated_by_tenant(locked: Mesh) -> None:
    one, mate, other = (client(locked, name) for name in ("one", "mate", "other"))
    async with one, mate, other, one.session() as session:
        assert (await mate.attach(session.session_id)).session_id == session.session_id
        with pytest.raises(SessionNotFound):
            await other.attach(session.session_id)


async def test_idempotency_keys_are_isolated_by_tenant(locked: Mesh) -> None:
    request = segmentation_pb2.CreateSessionRequest(idempotency_key="the same")
    async with client(locked, "one") as one, client(locked, "slow") as slow:
        made = [await connected._connection.call("CreateSession", request) for connected in (one, slow)]
    assert made[0].session_id != made[1].session_id


async def test_embeddings_are_isolated_by_tenant(locked: Mesh) -> None:
    """An image that another tenant has sent is a cache miss."""
    picture = np.random.default_rng(5).integers(0, 255, (48, 64, 3), np.uint8)
    prompts = {1: Prompt([Point(5, 5)])}

    async def outcome(name: str) -> str:
        async with client(locked, name) as connected:
            found = await connected.segment_image(picture, prompts)
        trace = (await locked.complete_traces([found.trace_id]))[found.trace_id]
        outcomes = [
            s.attributes["maskmesh.cache.outcome"]
            for s in trace.spans.values()
            if "maskmesh.cache.outcome" in s.attributes
        ]
        return str(outcomes[-1])

    assert [await outcome(name) for name in ("one", "mate", "slow")] == ["miss", "hit", "miss"]


async def test_limits_are_per_key(locked: Mesh) -> None:
    async with client(locked, "other") as other, client(locked, "one") as one, other.session() as session:
        with pytest.raises(ResourceExhausted) as caught:
            await other.create_session()
        assert caught.value.metadata["resource"] == "sessions"
        assert await session.append_frames([PICTURE]) == 1
        with pytest.raises(ResourceExhausted) as caught:
            await session.append_frames([PICTURE, PICTURE])
        assert caught.value.metadata["resource"] == "bytes"
        async with one.session() as free:
            assert await free.append_frames([PICTURE] * 4) == 4


async def test_concurrent_uploads_share_the_byte_limit(locked: Mesh) -> None:
    async with client(locked, "mate") as mate, mate.session() as session:
        await session.append_frames([PICTURE])  # bytes of another key do not count
    async with client(locked, "big") as big:
        sessions = [await big.create_session() for _ in range(4)]
        # Each upload is 18,432 bytes, so two of four fit.
        uploads = [session.append_frames([PICTURE] * 2) for session in sessions]
        outcomes = await asyncio.gather(*uploads, return_exceptions=True)
        assert 1 <= sum(outcome == 2 for outcome in outcomes) <= 2
        refused = [outcome for outcome in outcomes if isinstance(outcome, ResourceExhausted)]
        assert len(refused) >= 2
        for session in sessions:
            await session.delete()


async def test_click_succeeds_during_a_rate_limited_stream(locked: Mesh) -> None:
    async with client(locked, "brisk") as brisk, brisk.session() as session:
        await session.append_frames([PICTURE] * 20)
        await session.add_prompt(0, 1, points=[(5, 5)])

        async def track() -> int:
            return len([frame async for frame in session.propagate()])

        tracking = asyncio.ensure_future(track())
        await asyncio.sleep(1.0)
        assert not tracking.done()
        await brisk.segment_image(PICTURE, {1: Prompt([Point(1, 1)])})
        assert await tracking == 20


async def test_frame_rate_limit(locked: Mesh) -> None:
    async with client(locked, "slow") as slow, slow.session() as session:
        await session.append_frames([PICTURE] * 6)
        await session.add_prompt(0, 1, points=[(5, 5)])
        start = time.monotonic()
        frames = [f async for f in session.propagate()]
        assert len(frames) == 6
        assert time.monotonic() - start > 1.5
        # SegmentImage is refused with a retry hint, which the client obeys: burst of two, two a second.
        start = time.monotonic()
        calls = [slow.segment_image(PICTURE, {1: Prompt([Point(1, 1)])}) for _ in range(4)]
        assert len(await asyncio.gather(*calls)) == 4
        assert time.monotonic() - start > 0.4
    options = [("grpc.enable_retries", 0)]
    async with grpc.aio.insecure_channel(locked.endpoint, options=options) as channel:
        stub: Any = segmentation_pb2_grpc.SegmentationServiceStub(channel)
        request = segmentation_pb2.SegmentImageRequest(image=wire.image_to_proto(as_image(PICTURE)))
        request.prompts.add(obj_id=1, prompt=wire.prompt_to_proto(Prompt([Point(1, 1)])))
        metadata = (("authorization", "Bearer slowslow"),)
        with pytest.raises(ResourceExhausted) as caught, translate_rpc_errors():
            await asyncio.gather(*(stub.SegmentImage(request, metadata=metadata) for _ in range(8)))
        assert caught.value.metadata["resource"] == "frames_per_second"
        assert 0 < caught.value.retry_seconds <= 1


async def test_key_file_is_reloaded(locked: Mesh, keys: Path) -> None:
    async with client(locked, "new") as new:
        with pytest.raises(Unauthenticated):
            await new.create_session()
        before = keys.read_text()
        keys.write_text(before + entry("new"))
        await _until_read(keys)
        await (await new.create_session()).delete()
        keys.write_text("this is no file of keys")
        await _until_read(keys)
        await (await new.create_session()).delete()
        keys.write_text(before)
        await _until_read(keys)
        with pytest.raises(Unauthenticated):
            await new.create_session()


async def _until_read(keys: Path) -> None:
    os.utime(keys)
    await asyncio.sleep(1.2)


def test_invalid_key_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text('[[key]]\nname = "x"\nsha256 = "short"\n')
    with pytest.raises(ValueError, match="sha256"):
        ApiKeys(path)
