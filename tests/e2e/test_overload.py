"""More than a mesh can carry: refused with a hint, shared among tenants, dropped when nobody waits."""

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
from maskmesh.cli.local_mesh import MeshOptions
from maskmesh.errors import from_rpc_error
from maskmesh.images import as_image
from maskmesh.masks import ByteArray
from maskmesh.v1 import segmentation_pb2, segmentation_pb2_grpc
from tests.conftest import Mesh, running_mesh

PROMPTS = {1: Prompt(points=(Point(20, 20),))}


def picture(number: int) -> ByteArray:
    """Pictures of equal work that are all different."""
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
    """Requests at once, that are not made again; what became of each."""
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


async def test_what_is_too_much_is_refused_at_once_with_a_hint(busy: Mesh) -> None:
    outcomes = await flood(busy, range(100))
    refused = [error for error in outcomes if error is not None]
    assert outcomes.count(None) >= 1 + EncoderSettings().max_interactive_queue
    assert refused
    for error in refused:
        assert isinstance(error, ResourceExhausted)
        assert error.metadata["resource"] in ("queue", "calls")
        assert 0.1 <= error.retry_seconds <= 10
    # Then all is as before.
    assert await flood(busy, range(100, 102)) == [None, None]


async def test_clients_come_again_when_they_are_told_to(busy: Mesh) -> None:
    async with AsyncClient(busy.endpoint, timeout=60, api_key="much") as client:
        started = time.monotonic()
        many = [client.segment_image(picture(n), PROMPTS) for n in range(120, 150)]
        outcomes = await asyncio.gather(*many, return_exceptions=True)
        failed = Counter(type(o).__name__ for o in outcomes if isinstance(o, BaseException))
        assert failed.keys() <= {"ResourceExhausted"}
        # So many have no place at once; five attempts are enough for most.
        assert len(outcomes) - failed.total() > 20
        assert time.monotonic() - started > 0.1


async def test_one_tenant_does_not_take_the_places_of_another(busy: Mesh) -> None:
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
            # One after the other, never refused.
            await stub.SegmentImage(
                request(served % 100), timeout=60, metadata=(("authorization", "Bearer little"),)
            )
            served += 1
    assert any(flooding.result())
    assert served > 3


async def test_a_propagation_goes_on_under_a_flood(busy: Mesh, clip: Path) -> None:
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


async def test_what_nobody_waits_for_is_not_computed(tmp_path_factory: pytest.TempPathFactory) -> None:
    # Encoded one by one, on one thread for one picture: a hundred milliseconds are not enough for all.
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
        # Whatever was begun comes to its end; the others of those that were late were never begun.
        assert len(encoded) < 12
