"""Overload: excess requests get a retry hint, tenants get fair shares, abandoned work is dropped."""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from encoder_svc.config import EncoderSettings
from maskmesh import AsyncClient, Point, Prompt, ResourceExhausted, telemetry, wire
from maskmesh.cli.mesh.local_mesh import MeshOptions
from maskmesh.masks import ByteArray
from maskmesh.media.pictures import as_image
from maskmesh.rpc.status import from_rpc_error
from maskmesh.v1 import segmentation_pb2, segmentation_pb2_grpc
from tests.mesh import Mesh, running_mesh

PROMPTS = {1: Prompt(points=(Point(20, 20),))}


def picture(number: int) -> ByteArray:
    """An image of fixed size whose content depends on ``number``."""
    return np.full((480, 640, 3), number, np.uint8)


def request(number: int) -> segmentation_pb2.SegmentImageRequest:
    made = segmentation_pb2.SegmentImageRequest(image=wire.image_to_proto(as_image(picture(number))))
    made.prompts.add(obj_id=1, prompt=wire.prompt_to_proto(PROMPTS[1]))
    return made


@pytest.fixture(scope="module")
async def busy(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    folder = tmp_path_factory.mktemp("keys")
    keys = folder / "keys.toml"
    keys.write_text(
        "".join(
            f'[[key]]\nname = "{name}"\nsha256 = "{hashlib.sha256(name.encode()).hexdigest()}"\n'
            for name in ("much", "little")
        )
    )
    flags = {"gateway": ["--keys", str(keys), "--max-calls", "40"]}
    async with running_mesh(tmp_path_factory.mktemp("traces"), MeshOptions(flags=flags)) as mesh:
        yield mesh


async def flood(mesh: Mesh, numbers: range, *, timeout: float = 60.0) -> list[Exception | None]:
    """Send concurrent requests without retries; returns the error of each, or None if it succeeded."""
    options = [("grpc.enable_retries", 0)]
    metadata = (("authorization", "Bearer much"),)

    async def one(stub: Any, number: int) -> Exception | None:
        try:
            await stub.SegmentImage(request(number), timeout=timeout, metadata=metadata)
        except grpc.RpcError as error:
            return from_rpc_error(error)
        return None

    async with grpc.aio.insecure_channel(mesh.endpoint, options=options) as channel:
        stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
        return await asyncio.gather(*(one(stub, number) for number in numbers))


async def test_excess_requests_are_refused_with_a_retry_hint(busy: Mesh) -> None:
    outcomes = await flood(busy, range(100))
    refused = [error for error in outcomes if error is not None]
    assert outcomes.count(None) >= 1 + EncoderSettings().max_interactive_queue
    assert refused
    for error in refused:
        assert isinstance(error, ResourceExhausted)
        assert error.metadata["resource"] in ("queue", "calls")
        assert 0.1 <= error.retry_seconds <= 10
    # After the flood requests succeed again.
    assert await flood(busy, range(100, 102)) == [None, None]


async def test_client_retries_after_the_retry_hint(busy: Mesh) -> None:
    async with AsyncClient(busy.endpoint, timeout=60, api_key="much") as client:
        started = time.monotonic()
        many = [client.segment_image(picture(n), PROMPTS) for n in range(120, 150)]
        outcomes = await asyncio.gather(*many, return_exceptions=True)
        failed = Counter(type(o).__name__ for o in outcomes if isinstance(o, BaseException))
        assert failed.keys() <= {"ResourceExhausted"}
        # The queue cannot hold all requests at once; five attempts are enough for most of them.
        assert len(outcomes) - failed.total() > 20
        assert time.monotonic() - started > 0.1


async def test_flooding_tenant_does_not_starve_another(busy: Mesh) -> None:
    async def keep_flooding() -> list[Exception | None]:
        outcomes = []
        for start in range(150, 250, 20):
            outcomes += await flood(busy, range(start, start + 20))
        return outcomes

    flooding = asyncio.ensure_future(keep_flooding())
    options = [("grpc.enable_retries", 0)]
    served = 0
    async with grpc.aio.insecure_channel(busy.endpoint, options=options) as channel:
        stub: Any = segmentation_pb2_grpc.SegmentationServiceStub(channel)
        while not flooding.done():
            # Sequential requests of this tenant are never refused.
            await stub.SegmentImage(
                request(served % 100), timeout=60, metadata=(("authorization", "Bearer little"),)
            )
            served += 1
    assert any(flooding.result())
    assert served > 3


async def test_propagation_completes_under_a_flood(busy: Mesh, clip: Path) -> None:
    async with (
        AsyncClient(busy.endpoint, timeout=60, api_key="little") as client,
        client.session() as session,
    ):
        await session.append_video(clip)
        await session.add_prompt(0, 1, points=[(110, 262)])
        is_over = False

        async def keep_flooding() -> None:
            start = 0
            while not is_over:
                await flood(busy, range(start, start + 20))
                start = (start + 20) % 240

        flooding = asyncio.ensure_future(keep_flooding())
        frames = [frame.frame_index async for frame in session.propagate(max_frames=20)]
        is_over = True
        await flooding
    assert frames == list(range(20))


async def test_abandoned_requests_are_not_encoded(tmp_path_factory: pytest.TempPathFactory) -> None:
    # Images are encoded one by one on one thread, so 100 ms are not enough for all of them.
    options = MeshOptions(model="test", image_size=512)
    async with running_mesh(tmp_path_factory.mktemp("traces"), options) as mesh:
        outcomes = await flood(mesh, range(12), timeout=0.1)
        late = [
            error
            for error in outcomes
            if isinstance(error, grpc.RpcError) and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        ]
        assert late
        await asyncio.sleep(2)
        encoded = [
            span
            for trace in mesh.all_traces()
            for span in trace.spans.values()
            if span.name == telemetry.IMAGE_ENCODER
        ]
        # Encodes in progress complete; the encoder does not start other requests after their deadline.
        assert len(encoded) < 12
