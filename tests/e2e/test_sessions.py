"""Sessions in a mesh of three real processes."""

import asyncio
from datetime import timedelta
from pathlib import Path

import grpc
import numpy as np
import pytest

from maskmesh import (
    AsyncClient,
    LowResLogits,
    MaskFormat,
    MaskOptions,
    NothingPrompted,
    ObjectNotFound,
    RleMask,
    SessionBusy,
    SessionNotFound,
)
from maskmesh.internal.v1 import encoder_pb2, encoder_pb2_grpc
from maskmesh.media.video_reader import read_frames
from maskmesh.rpc.server_interceptor import TRACE_ID_KEY
from maskmesh.v1 import segmentation_pb2, segmentation_pb2_grpc
from tests.conftest import CLIP_FRAMES
from tests.mesh import Mesh

LOGITS = MaskOptions(MaskFormat.LOW_RES_LOGITS)


async def test_propagation_returns_frames_and_objects_in_order(client: AsyncClient, clip: Path) -> None:
    async with client.session() as session:
        assert await session.append_video(clip) == CLIP_FRAMES
        assert (session.width, session.height, session.frames_per_second) == (640, 360, 30)
        await session.add_prompt(0, 7, points=[(110, 262)])
        await session.add_prompt(5, 3, box=(465, 120, 600, 250))
        frames = [frame async for frame in session.propagate(max_frames=12)]
    assert [f.frame_index for f in frames] == list(range(12))
    assert all(list(f.objects) == [7, 3] for f in frames)
    assert [f.frame_index for f in frames if f.conditioning] == [0, 5]
    assert len({f.trace_id for f in frames}) == 12
    mask = frames[3].objects[7].mask
    assert isinstance(mask, RleMask)
    assert mask.decode().shape == (360, 640)
    assert mask.decode().any()


async def test_prompted_frame_keeps_its_mask_in_propagation(client: AsyncClient, clip: Path) -> None:
    async with client.session() as session:
        await session.append_video(clip)
        await session.add_prompt(0, 1, points=[(110, 262)])
        async for _ in session.propagate(max_frames=6):
            pass
        corrected = await session.add_prompt(3, 1, points=[(300, 200, 0), (60, 60, 1)])
        again = [frame async for frame in session.propagate(start_frame_index=2, max_frames=3)]
    assert again[1].objects[1].mask == corrected.objects[1].mask
    assert again[1].conditioning


async def test_single_frames_match_the_video(client: AsyncClient, clip: Path) -> None:
    async def track(*, as_video: bool) -> list[RleMask]:
        async with client.session() as session:
            if as_video:
                await session.append_video(clip)
            else:
                pixels = list(read_frames(clip))[:8]
                assert await session.append_frames(pixels[:3]) == 3
                assert await session.append_frames(pixels[3:]) == 8
            await session.add_prompt(0, 1, points=[(110, 262)])
            masks = [f.objects[1].mask async for f in session.propagate(max_frames=8)]
            return [m for m in masks if isinstance(m, RleMask)]

    video = await track(as_video=True)
    assert len(video) == 8
    assert await track(as_video=False) == video


async def test_logits_of_prompt_and_propagation_agree(client: AsyncClient, clip: Path) -> None:
    async with client.session() as session:
        await session.append_video(clip)
        frame = await session.add_prompt(0, 1, points=[(110, 262)], mask_options=LOGITS)
        logits = frame.objects[1].mask
        assert isinstance(logits, LowResLogits)
        assert logits.values.shape == (64, 64)
        tracked = session.propagate(max_frames=2, mask_options=LOGITS)
        masks = [f.objects[1].mask async for f in tracked]
    assert isinstance(masks[0], LowResLogits)
    np.testing.assert_array_equal(masks[0].values, logits.values)


async def test_mask_prompt_becomes_the_output(client: AsyncClient, clip: Path) -> None:
    given = np.zeros((360, 640), dtype=bool)
    given[100:220, 200:380] = True
    async with client.session() as session:
        await session.append_video(clip)
        frame = await session.add_prompt(0, 1, mask=given)
    mask = frame.objects[1].mask
    assert isinstance(mask, RleMask)
    found = mask.decode()
    assert (found & given).sum() / (found | given).sum() > 0.95
    assert frame.objects[1].object_score_logit == 10


async def test_segment_image_with_refinement(client: AsyncClient, clip: Path) -> None:
    pixels = next(read_frames(clip))
    from maskmesh import Prompt

    prompts = {1: Prompt.of(points=[(110, 262)]), 2: Prompt.of(box=(465, 120, 600, 250))}
    single = await client.segment_image(pixels, prompts)
    assert {i: len(m) for i, m in single.objects.items()} == {1: 1, 2: 1}
    assert (single.width, single.height) == (640, 360)
    several = await client.segment_image(pixels, prompts, multimask_output=True, mask_options=LOGITS)
    assert {i: len(m) for i, m in several.objects.items()} == {1: 3, 2: 3}
    ious = [m.predicted_iou for m in several.objects[1]]
    assert ious == sorted(ious, reverse=True)
    # The logits of one response are the mask prompt of the next request.
    logits = several.objects[1][0].mask
    refined = await client.segment_image(
        pixels, {1: Prompt.of(points=[(110, 262), (60, 60, 0)], mask=logits)}
    )
    assert refined.objects[1][0].mask != single.objects[1][0].mask


async def test_removing_an_object_keeps_the_others(client: AsyncClient, clip: Path) -> None:
    async with client.session() as session:
        await session.append_video(clip)
        await session.add_prompt(0, 1, points=[(110, 262)])
        await session.add_prompt(0, 2, box=(465, 120, 600, 250))
        with pytest.raises(ObjectNotFound):
            await session.remove_object(9)
        assert await session.remove_object(1) == [2]
        frames = [frame async for frame in session.propagate(max_frames=2)]
        assert [list(f.objects) for f in frames] == [[2], [2]]
        await session.reset()
        with pytest.raises(NothingPrompted):
            await anext(session.propagate())


async def test_closing_the_iterator_stops_the_propagation(client: AsyncClient, clip: Path) -> None:
    async with client.session() as session:
        await session.append_video(clip)
        await session.add_prompt(0, 1, points=[(110, 262)])
        frames = session.propagate()
        assert (await anext(frames)).frame_index == 0
        await frames.aclose()
        # The session accepts the next propagation immediately.
        for _ in range(5):
            again = session.propagate(start_frame_index=2)
            assert (await anext(again)).frame_index == 2
            await again.aclose()
        whole = [frame async for frame in session.propagate(max_frames=3)]
    assert [f.frame_index for f in whole] == [0, 1, 2]


async def test_encoding_stops_after_a_disconnect(mesh: Mesh, client: AsyncClient, fresh_clip: Path) -> None:
    async with (
        grpc.aio.insecure_channel(mesh.address("encoder")) as channel,
        client.session() as session,
    ):
        stub = encoder_pb2_grpc.EncoderServiceStub(channel)

        async def encoded() -> int:
            answer = await stub.GetCacheStatistics(encoder_pb2.GetCacheStatisticsRequest())
            return int(answer.misses)

        before = await encoded()
        await session.append_video(fresh_clip)
        await session.add_prompt(0, 1, points=[(110, 262)])
        frames = session.propagate()
        await anext(frames)
        await frames.aclose()
        await asyncio.sleep(1)
        # Of fifty frames only the delivered one and at most a window of read-ahead were encoded.
        assert await encoded() - before <= 1 + 5


async def test_second_propagation_is_refused(client: AsyncClient, clip: Path) -> None:
    async with client.session() as session:
        await session.append_video(clip)
        await session.add_prompt(0, 1, points=[(110, 262)])
        first = session.propagate()
        await anext(first)
        with pytest.raises(SessionBusy):
            await anext(session.propagate())
        assert (await anext(first)).frame_index == 1


async def test_deadline_ends_the_propagation(client: AsyncClient, clip: Path) -> None:
    async with client.session() as session:
        await session.append_video(clip)
        await session.add_prompt(0, 1, points=[(110, 262)])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in session.propagate(timeout=0.2):
                pass
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await session.add_prompt(1, 1, points=[(110, 262)])


async def test_slow_reader_does_not_block_clicks(mesh: Mesh, client: AsyncClient, clip: Path) -> None:
    async with client.session() as session:
        await session.append_video(clip)
        await session.add_prompt(0, 1, points=[(110, 262)])
        frames = session.propagate()
        await anext(frames)
        await asyncio.sleep(0.5)
        # A prompt of another object on a frame in the window succeeds while the propagation is paused.
        frame = await asyncio.wait_for(session.add_prompt(1, 2, points=[(520, 90)]), 10)
        assert list(frame.objects) == [2]
        rest = [f async for f in frames]
    assert [f.frame_index for f in rest] == list(range(1, CLIP_FRAMES))


async def test_sessions_expire_after_their_ttl(client: AsyncClient, clip: Path) -> None:
    session = await client.create_session(ttl=timedelta(seconds=0.3))
    assert session.ttl == timedelta(seconds=0.3)
    await asyncio.sleep(0.6)
    with pytest.raises(SessionNotFound) as caught:
        await session.append_video(clip)
    assert caught.value.metadata == {"session_id": session.session_id}
    longest = await client.create_session(ttl=timedelta(days=3))
    assert longest.ttl == timedelta(minutes=10)
    await longest.delete()


async def test_deleting_a_session_releases_its_pins(mesh: Mesh, client: AsyncClient, clip: Path) -> None:
    async with client.session() as session:
        await session.append_video(clip)
        await session.add_prompt(0, 1, points=[(110, 262)])
        async for _ in session.propagate(max_frames=10):
            pass
    async with grpc.aio.insecure_channel(mesh.address("encoder")) as channel:
        stub = encoder_pb2_grpc.EncoderServiceStub(channel)
        statistics = await stub.GetCacheStatistics(encoder_pb2.GetCacheStatisticsRequest())
    assert statistics.pinned_bytes == 0
    assert 0 < statistics.num_bytes <= statistics.budget_bytes


async def test_every_call_returns_its_trace_id(mesh: Mesh) -> None:
    async with grpc.aio.insecure_channel(mesh.endpoint) as channel:
        stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
        call = stub.CreateSession(segmentation_pb2.CreateSessionRequest())
        await call
        trace_id = dict(await call.trailing_metadata())[TRACE_ID_KEY]
        failing = stub.DeleteSession(segmentation_pb2.DeleteSessionRequest(session_id="nobody"))
        with pytest.raises(grpc.aio.AioRpcError):
            await failing
        failed_id = dict(await failing.trailing_metadata())[TRACE_ID_KEY]
    assert len(trace_id) == len(failed_id) == 32
    assert len(await mesh.complete_traces([trace_id, failed_id])) == 2
