"""Every invalid call fails with the documented reason and does not change the session."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from maskmesh import AsyncClient, PromptRecord
from maskmesh.cli.mesh.local_mesh import MeshOptions
from maskmesh.errors import InvalidRequest
from maskmesh.rpc.status import translate_rpc_errors
from maskmesh.v1 import segmentation_pb2, segmentation_pb2_grpc, types_pb2
from tests.e2e.bad_inputs import CLICK, CUT_OFF, encoded, plain, video
from tests.e2e.error_case import Case
from tests.e2e.error_matrix import CASES, reason, table
from tests.e2e.limits import LIMITS, LOW, Limit
from tests.e2e.wrong_calls import Context, add_prompt, append, image, on_image, segment_image, unary
from tests.mesh import Mesh, running_mesh

PROJECT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
async def context(mesh: Mesh) -> AsyncIterator[Context]:
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(AsyncClient(mesh.endpoint))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(mesh.endpoint))
        expired = await client.create_session(ttl=timedelta(seconds=0.01))
        ids = []
        for _ in range(2):
            session = await stack.enter_async_context(client.session())
            await session.append_frames([encoded(plain())] * 8)
            await session.add_prompt(0, 1, points=[(5, 5)])
            ids.append(session.session_id)
        empty = await stack.enter_async_context(client.session())
        with_video = await stack.enter_async_context(client.session())
        await with_video.append_video(video())
        broken, broken_prompted, spare = [await stack.enter_async_context(client.session()) for _ in range(3)]
        await broken.append_frames([CUT_OFF])
        await broken_prompted.append_frames([encoded(plain()), CUT_OFF])
        await broken_prompted.add_prompt(0, 1, points=[(5, 5)])
        await spare.append_frames([encoded(plain())] * 200)
        live = await stack.enter_async_context(client.stream())
        gone = await client.create_session()
        await gone.delete()
        yield Context(
            stub=segmentation_pb2_grpc.SegmentationServiceStub(channel),
            session_id=ids[0],
            other_id=ids[1],
            live_id=live.session_id,
            gone_id=gone.session_id,
            expired_id=expired.session_id,
            empty_id=empty.session_id,
            video_id=with_video.session_id,
            unknown_id="0123456789abcdef",
            broken_id=broken.session_id,
            broken_prompted_id=broken_prompted.session_id,
            spare_id=spare.session_id,
        )


async def states(context: Context) -> list[object]:
    ids = (context.session_id, context.other_id, context.empty_id, context.video_id, context.live_id)
    found = await asyncio.gather(
        *(
            context.stub.GetSession(segmentation_pb2.GetSessionRequest(session_id=session_id))
            for session_id in ids
        )
    )
    for state in found:
        # Tracked frames are not a change of the prompts.
        kept = [e for e in state.history if e.WhichOneof("event") != "tracked"]
        del state.history[:]
        state.history.extend(kept)
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_invalid_call_raises_the_documented_error(context: Context, case: Case) -> None:
    before = await states(context)
    with pytest.raises(case.error) as caught, translate_rpc_errors():
        await case.call(context)
    assert type(caught.value) is case.error
    if issubclass(case.error, InvalidRequest):
        assert caught.value.metadata["field"] == case.field
    assert await states(context) == before


UNARY = {
    "SegmentImage": segment_image(prompts=on_image(CLICK)),
    "GetSession": unary("GetSession", segmentation_pb2.GetSessionRequest),
    "AddPrompt": add_prompt(frame_index=3),
    "ClearPrompts": unary("ClearPrompts", segmentation_pb2.ClearPromptsRequest, obj_id=7),
    "RemoveObject": unary("RemoveObject", segmentation_pb2.RemoveObjectRequest, obj_id=7),
}


@pytest.mark.parametrize("rpc", UNARY)
async def test_expired_deadline_changes_nothing(context: Context, rpc: str) -> None:
    before = await states(context)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await UNARY[rpc](replace(context, stub=Hurried(context.stub)))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert await states(context) == before


@pytest.mark.parametrize("rpc", UNARY)
async def test_cancelled_call_changes_nothing(context: Context, rpc: str) -> None:
    before = await states(context)
    call = asyncio.ensure_future(UNARY[rpc](context))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.sleep(0.2)
    assert await states(context) == before


class Hurried:
    """A stub whose calls have an expired deadline."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub

    def __getattr__(self, rpc: str) -> Any:
        return lambda request: getattr(self._stub, rpc)(request, timeout=-1)


@pytest.mark.parametrize("streams", [False, True])
async def test_oversized_message_is_refused(context: Context, mesh: Mesh, *, streams: bool) -> None:
    large = types_pb2.Image(encoded=bytes(257 * 2**20))
    before = await states(context)
    options = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(mesh.endpoint, options=options) as channel:
        stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
        there = replace(context, stub=stub)
        call = append(image(large)) if streams else segment_image(image=large, prompts=on_image(CLICK))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(there)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await states(context) == before


@pytest.fixture(scope="module")
async def low_client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AsyncClient]:
    flags = {
        service: [part for name, value in settings.items() for part in (f"--{name}", str(value))]
        for service, settings in LOW.items()
    }
    async with (
        running_mesh(tmp_path_factory.mktemp("traces"), MeshOptions(flags=flags)) as low,
        AsyncClient(low.endpoint) as client,
    ):
        yield client


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: f"{limit.setting}-{limit.rpc}")
async def test_exceeded_limit_keeps_the_session_usable(low_client: AsyncClient, limit: Limit) -> None:
    async with low_client.session() as session:
        await session.append_frames([encoded(plain())] * 60)
        with pytest.raises(limit.error) as caught:
            await limit.beyond(low_client, session)
        assert caught.value.metadata.get("resource", "") == limit.resource
        # The session keeps all changes up to the limit and stays usable.
        state = await session.get_state()
        assert state.num_frames == 60
        assert state.revision == sum(isinstance(entry, PromptRecord) for entry in state.history)
        for obj in state.objects:
            await session.remove_object(obj.obj_id)
        await session.add_prompt(0, 5, points=[(5, 5)])
        assert [f.frame_index async for f in session.propagate(max_frames=2)] == [0, 1]


def test_proto_comments_list_every_reason() -> None:
    proto = (PROJECT / "protos" / "maskmesh" / "v1" / "segmentation.proto").read_text()
    commented = re.findall(r"((?:  //[^\n]*\n)+)  rpc (\w+)\(", proto)
    assert [name for comment, name in commented if "Reasons:" not in comment] == ["GetMesh"]
    rpcs = [(comment, name) for comment, name in commented if "Reasons:" in comment]
    assert {name for _, name in rpcs} == {case.rpc for case in CASES}
    for comment, name in rpcs:
        said = set(
            re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b|CONFLICT|UNAVAILABLE", comment[comment.index("Reasons:") :])
        )
        found = {reason(case.error) for case in CASES if case.rpc == name}
        assert found <= said, f"{name} does not say {found - said}"


def test_docs_of_errors_are_current() -> None:
    assert (PROJECT / "docs" / "errors.md").read_text() == table()
