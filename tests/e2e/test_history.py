"""The history of a session: reading, clearing of prompts, replay, idempotency and revisions."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from maskmesh import (
    AsyncClient,
    ClearRecord,
    Conflict,
    FrameMasks,
    FrameRange,
    NothingPrompted,
    ObjectNotFound,
    Point,
    PromptNotFound,
    PromptRecord,
    VideoSession,
)
from maskmesh.rpc.status import translate_rpc_errors
from maskmesh.v1 import segmentation_pb2, segmentation_pb2_grpc
from tests.mesh import Mesh

WHEEL, FLOWER, KITE = (110, 262), (530, 185), (330, 62)


@pytest.fixture
async def stub(mesh: Mesh) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(mesh.endpoint) as channel:
        yield segmentation_pb2_grpc.SegmentationServiceStub(channel)


async def propagate(session: VideoSession, **options: Any) -> list[FrameMasks]:
    return [frame async for frame in session.propagate(**options)]


async def test_get_state_returns_the_history(client: AsyncClient, clip: Path) -> None:
    async with client.session() as session:
        await session.append_video(clip)
        await session.add_prompt(0, 1, points=[WHEEL])
        await session.add_prompt(0, 2, box=(470, 120, 590, 250))
        await propagate(session, max_frames=6)
        await session.add_prompt(4, 1, points=[FLOWER, (*WHEEL, 0)], clear_previous=True)
        await propagate(session, start_frame_index=5, max_frames=3, reverse=True)
        await session.clear_prompts(4, 1)
        state = await session.get_state()
    assert (state.num_frames, state.width, state.height) == (60, 640, 360)
    assert state.session_id == session.session_id
    assert state.ttl == session.ttl
    assert state.revision == session.revision == 4
    assert [(o.obj_id, o.prompted_frames) for o in state.objects] == [(1, (0,)), (2, (0,))]
    said = [e for e in state.history if isinstance(e, PromptRecord)]
    assert [(e.frame_index, e.obj_id, e.clear_previous) for e in said] == [
        (0, 1, False), (0, 2, False), (4, 1, True),
    ]  # fmt: skip
    assert list(said[2].prompt.points) == [Point(*FLOWER), Point(*WHEEL, positive=False)]
    assert said[1].prompt.box is not None
    assert [e for e in state.history if not isinstance(e, PromptRecord)] == [
        FrameRange(0, 5), FrameRange(5, 3, reverse=True), ClearRecord(4, 1),
    ]  # fmt: skip


async def test_replay_reproduces_a_session(client: AsyncClient, clip: Path) -> None:
    async with client.session() as first, client.session() as second:
        for session in (first, second):
            await session.append_video(clip)
        await first.add_prompt(0, 1, points=[WHEEL])
        await first.add_prompt(0, 2, points=[FLOWER])
        await propagate(first, max_frames=12)
        await first.add_prompt(6, 1, points=[(*FLOWER, 0)])
        await first.add_prompt(8, 3, points=[KITE])
        await propagate(first, start_frame_index=6, max_frames=6)
        await second.replay((await first.get_state()).history)
        ours = await propagate(first, start_frame_index=10, max_frames=6)
        theirs = await propagate(second, start_frame_index=10, max_frames=6)
        assert (await second.get_state()).history == (await first.get_state()).history
    assert [f.objects for f in ours] == [f.objects for f in theirs]


async def test_clear_prompts(client: AsyncClient, clip: Path) -> None:
    async with client.session() as session:
        await session.append_video(clip)
        await session.add_prompt(0, 1, points=[WHEEL])
        before = await propagate(session, max_frames=8)
        # A prompt that is cleared before any tracking has no effect.
        await session.add_prompt(5, 1, points=[FLOWER], clear_previous=True)
        assert await session.clear_prompts(5, 1) == [1]
        again = await propagate(session, max_frames=8)
        assert [f.objects for f in again] == [f.objects for f in before]
        assert not any(f.conditioning for f in again[1:])
        with pytest.raises(PromptNotFound) as caught:
            await session.clear_prompts(5, 1)
        assert caught.value.metadata == {"obj_id": "1", "frame_index": "5"}
        with pytest.raises(ObjectNotFound):
            await session.clear_prompts(0, 2)
        # Clearing the last prompt removes the object.
        assert await session.clear_prompts(0, 1) == []
        assert (await session.get_state()).history == []


async def test_corrections_apply_forward_and_in_reverse(client: AsyncClient, clip: Path) -> None:
    async with client.session() as session:
        await session.append_video(clip)
        await session.add_prompt(0, 1, points=[WHEEL])
        before = await propagate(session, max_frames=50)
        corrected = await session.add_prompt(20, 1, points=[FLOWER], clear_previous=True)
        forward = await propagate(session, start_frame_index=18, max_frames=12)
        backward = await propagate(session, start_frame_index=24, max_frames=10, reverse=True)
    assert [f.frame_index for f in backward] == list(range(24, 14, -1))
    for frames, at in ((forward, 2), (backward, 4)):
        assert frames[at].frame_index == 20
        assert frames[at].objects == corrected.objects
    assert forward[3].objects != before[21].objects
    assert backward[5].objects != before[19].objects


async def test_reverse_runs_from_the_first_prompt_to_frame_zero(client: AsyncClient, clip: Path) -> None:
    async with client.session() as session:
        await session.append_video(clip)
        await session.add_prompt(9, 1, points=[WHEEL])
        await session.add_prompt(30, 2, points=[FLOWER])
        frames = await propagate(session, reverse=True)
        assert [f.frame_index for f in frames] == list(range(9, -1, -1))
        few = await propagate(session, start_frame_index=31, max_frames=3, reverse=True)
        assert [f.frame_index for f in few] == [31, 30, 29]


async def test_object_removal_during_a_propagation(client: AsyncClient, clip: Path) -> None:
    async def run(*, removes: bool) -> list[FrameMasks]:
        async with client.session() as session:
            await session.append_video(clip)
            await session.add_prompt(0, 1, points=[WHEEL])
            if removes:
                await session.add_prompt(0, 2, points=[FLOWER])
            frames = []
            async for frame in session.propagate(max_frames=20):
                frames.append(frame)
                if removes and frame.frame_index == 5:
                    assert await session.remove_object(2) == [1]
            return frames

    removing, alone = await run(removes=True), await run(removes=False)
    assert list(removing[5].objects) == [1, 2]
    assert list(removing[-1].objects) == [1]
    for ours, theirs in zip(removing, alone, strict=True):
        mask, expected = (f.objects[1].mask.decode() for f in (ours, theirs))  # type: ignore[union-attr]
        assert (mask ^ expected).sum() <= 0.005 * expected.sum()


async def test_repeated_changes_are_idempotent(stub: Any, client: AsyncClient, clip: Path) -> None:
    async with client.session() as session:
        config = segmentation_pb2.AppendFramesConfig(session_id=session.session_id, idempotency_key="upload")

        async def upload() -> Any:
            async def messages() -> AsyncIterator[segmentation_pb2.AppendFramesRequest]:
                yield segmentation_pb2.AppendFramesRequest(config=config)
                yield segmentation_pb2.AppendFramesRequest(video_chunk=clip.read_bytes())
                yield segmentation_pb2.AppendFramesRequest(finish=segmentation_pb2.AppendFramesFinish())

            return await stub.AppendFrames(messages())

        assert (await upload()).num_frames == 60
        assert (await upload()).num_frames == 60
        click = segmentation_pb2.AddPromptRequest(
            session_id=session.session_id, obj_id=1, idempotency_key=uuid.uuid4().hex
        )
        click.prompt.points.add(x=WHEEL[0], y=WHEEL[1], label="POINT_LABEL_POSITIVE")
        first, second = await asyncio.gather(stub.AddPrompt(click), stub.AddPrompt(click))
        assert first.frame.objects == second.frame.objects
        assert first.revision == second.revision == 1
        assert len((await session.get_state()).history) == 1
        click.prompt.points[0].x += 1
        with pytest.raises(Conflict) as caught, translate_rpc_errors():
            await stub.AddPrompt(click)
        assert caught.value.metadata == {"field": "idempotency_key"}
        removal = segmentation_pb2.RemoveObjectRequest(
            session_id=session.session_id, obj_id=1, idempotency_key="gone"
        )
        assert (await stub.RemoveObject(removal)).revision == 2
        assert (await stub.RemoveObject(removal)).revision == 2
        reset = segmentation_pb2.ResetSessionRequest(session_id=session.session_id, idempotency_key="reset")
        assert (await stub.ResetSession(reset)).revision == (await stub.ResetSession(reset)).revision == 3
    creation = segmentation_pb2.CreateSessionRequest(idempotency_key=uuid.uuid4().hex)
    one, same = await stub.CreateSession(creation), await stub.CreateSession(creation)
    assert one.session_id == same.session_id
    deletion = segmentation_pb2.DeleteSessionRequest(session_id=one.session_id, idempotency_key="bye")
    await stub.DeleteSession(deletion)
    await stub.DeleteSession(deletion)


async def test_stale_expected_revision_conflicts(client: AsyncClient, clip: Path) -> None:
    async with client.session() as session:
        await session.append_video(clip)
        await session.add_prompt(0, 1, points=[WHEEL])
        seen = (await session.get_state()).revision
        await session.add_prompt(0, 2, points=[FLOWER])
        for change in (
            session.add_prompt(0, 1, points=[FLOWER], expected_revision=seen),
            session.clear_prompts(0, 1, expected_revision=seen),
            session.remove_object(1, expected_revision=seen),
            session.reset(expected_revision=seen),
        ):
            with pytest.raises(Conflict) as caught:
                await change
            assert caught.value.metadata == {"field": "expected_revision", "revision": str(seen + 1)}
        state = await session.get_state()
        assert [o.obj_id for o in state.objects] == [1, 2]
        assert await session.remove_object(2, expected_revision=state.revision) == [1]
    async with client.session() as other:
        frames = [b"x"]
        with pytest.raises(Conflict):
            await other.append_frames(frames, first_frame_index=3)


async def test_concurrent_prompts_are_serialised(client: AsyncClient, clip: Path) -> None:
    async with client.session() as session:
        await session.append_video(clip)
        answers = await asyncio.gather(
            *(session.add_prompt(i % 3, i % 4, points=[(50 + 20 * i, 200)]) for i in range(12))
        )
        state = await session.get_state()
        assert state.revision == 12
        assert len(state.history) == 12
        assert sorted(o.obj_id for o in state.objects) == [0, 1, 2, 3]
        assert all(len(a.objects) == 1 for a in answers)
        # Replaying the history in its order reproduces the session.
        async with client.session() as again:
            await again.append_video(clip)
            await again.replay(state.history)
            ours = await propagate(session, start_frame_index=0, max_frames=4)
            theirs = await propagate(again, start_frame_index=0, max_frames=4)
    assert [f.objects for f in ours] == [f.objects for f in theirs]


async def drain(frames: AsyncIterator[FrameMasks]) -> None:
    """Read the remaining frames."""
    async for _ in frames:
        pass


async def test_reset_ends_a_running_propagation(client: AsyncClient, clip: Path) -> None:
    async with client.session() as session:
        await session.append_video(clip)
        await session.add_prompt(0, 1, points=[WHEEL])
        frames = session.propagate()
        for _ in range(6):
            await anext(frames)
        await session.reset()
        with pytest.raises(NothingPrompted):
            await drain(frames)
        state = await session.get_state()
        assert (state.objects, state.history) == ([], [])
        # The session accepts a new propagation and has no earlier objects.
        await session.add_prompt(8, 2, points=[FLOWER])
        assert [list(f.objects) for f in await propagate(session, max_frames=3)] == [[2]] * 3
