"""Points that are followed in live streams."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from maskmesh import (
    AsyncClient,
    InvalidRequest,
    LiveResult,
    LiveStream,
    ObjectNotFound,
    PointGrid,
    PointQuery,
    telemetry,
)
from maskmesh.cli.mesh.local_mesh import MeshOptions
from maskmesh.masks import ByteArray, RleMask
from maskmesh.media.video_reader import read_frames
from tests.e2e.test_live import collect
from tests.e2e.test_points import moving
from tests.mesh import Mesh, running_mesh


async def send_and_take(stream: LiveStream, frames: list[ByteArray]) -> list[LiveResult]:
    """Send frames one by one, each after the result of the one before."""
    results = aiter(stream)
    found = []
    for frame in frames:
        await stream.send(frame)
        found.append(await asyncio.wait_for(anext(results), 60))
    return found


async def test_points_of_a_stream_are_those_of_the_stored_video(client: AsyncClient) -> None:
    frames = moving(8, 3, 2)
    async with client.session() as session:
        await session.append_frames(frames)
        queries = [PointQuery(1, 2, 100.5, 80.5), PointQuery(2, 2, 200.5, 60.5)]
        expected = {f.frame_index: f async for f in session.track_points(queries)}
    async with client.stream() as stream:
        before = await send_and_take(stream, frames[:3])
        added = await stream.add_points({1: (100.5, 80.5), 2: (200.5, 60.5)})
        after = await send_and_take(stream, frames[3:])
    assert added == tuple(queries)
    assert [r.points for r in before] == [None] * 3
    for result in after:
        assert result.points is not None
        assert result.points.points == expected[result.frame.frame_index].points
        assert result.points.trace_id == result.frame.trace_id
        assert telemetry.OPTICAL_FLOW in result.frame.stage_seconds


async def test_points_come_and_go(client: AsyncClient) -> None:
    frames = moving(12, 3, 2)
    async with client.stream() as stream:
        await send_and_take(stream, frames[:2])
        await stream.add_points({1: (100.5, 80.5)})
        first = await send_and_take(stream, frames[2:4])
        # On an earlier frame: the point is followed from there.
        await stream.add_points({5: (120.5, 80.5)}, sequence=1)
        both = await send_and_take(stream, frames[4:6])
        assert await stream.remove_points([1]) == [5]
        second = await send_and_take(stream, frames[6:8])
        # A number that was removed can be chosen again.
        again = await stream.add_points(grids=[PointGrid(1, 2, first_point_id=1)])
        last = await send_and_take(stream, frames[8:10])
        assert await stream.remove_points() == []
        none = await send_and_take(stream, frames[10:])
    ids = [[list(r.points.points) for r in part if r.points] for part in (first, both, second, last, none)]
    assert ids == [[[1]] * 2, [[1, 5]] * 2, [[5]] * 2, [[5, 1, 2]] * 2, []]
    assert [(q.point_id, q.frame_index, q.x, q.y) for q in again] == [(1, 7, 80, 120), (2, 7, 240, 120)]
    for n, result in enumerate((*both, *second), start=4):
        assert result.points is not None
        point = result.points.points[5]
        assert (point.x, point.y) == pytest.approx((120.5 + 3 * (n - 1), 80.5 + 2 * (n - 1)), abs=0.5)
    assert last[0].points is not None
    assert (last[0].points.points[1].x, last[0].points.points[1].y) == pytest.approx((83, 122), abs=0.5)


async def test_points_join_while_frames_are_in_progress(client: AsyncClient) -> None:
    """No result is taken before the points are chosen: several frames are on their way."""
    frames = moving(30, 3, 2)
    async with client.stream() as stream:
        results = asyncio.ensure_future(collect(stream))
        for index, frame in enumerate(frames):
            await stream.send(frame)
            if index in (5, 9, 14):
                await stream.add_points({index: (100.5 + 3 * index, 80.5 + 2 * index)})
            if index == 20:
                await stream.remove_points([5])
        await stream.finish()
        found = await asyncio.wait_for(results, 60)
    shown = [list(r.points.points) if r.points else [] for r in found]
    assert shown[6:10] == [[5]] * 4
    assert shown[15:19] == [[5, 9, 14]] * 4
    assert shown[21:] == [[9, 14]] * 9
    for n, result in enumerate(found):
        for point in result.points.points.values() if result.points else ():
            assert (point.x, point.y) == pytest.approx((100.5 + 3 * n, 80.5 + 2 * n), abs=0.7)


async def test_a_grid_lies_inside_an_object_of_the_stream(client: AsyncClient, clip: Path) -> None:
    frames = [frame for frame, _ in zip(read_frames(clip), range(4), strict=False)]
    async with client.stream() as stream:
        await send_and_take(stream, frames[:1])
        prompted = await stream.add_prompt(5, points=[(110, 262)])
        added = await stream.add_points(grids=[PointGrid(6, 6, obj_id=5)])
        with pytest.raises(ObjectNotFound):
            await stream.add_points(grids=[PointGrid(6, 6, obj_id=6, first_point_id=100)])
        found = await send_and_take(stream, frames[1:])
    mask = prompted.objects[5].mask
    assert isinstance(mask, RleMask)
    pixels = mask.decode()
    assert 10 < len(added) < 36
    assert all(pixels[int(p.y), int(p.x)] for p in added)
    assert all(r.points is not None and len(r.points.points) == len(added) for r in found)
    assert list(found[-1].frame.objects) == [5]


async def test_wrong_commands_change_nothing(client: AsyncClient) -> None:
    frames = moving(6, 3, 2)
    async with client.stream() as stream:
        with pytest.raises(InvalidRequest, match="has not been sent"):
            await stream.add_points({1: (1, 1)}, sequence=3)
        await send_and_take(stream, frames[:2])
        with pytest.raises(InvalidRequest, match="1 is not followed") as caught:
            await stream.remove_points([1])
        assert caught.value.field == "points_removal.point_ids"
        await stream.add_points({1: (100.5, 80.5)})
        for points, grids, field, message in (
            ({}, [], "points.points", "at least one point or grid"),
            ({1: (5, 5)}, [], "points.points", "1 is followed already"),
            ({2: (321, 5)}, [], "points.points[0].x", "0 to 320"),
            ({}, [PointGrid(2, 2, frame_index=1)], "points.grids[0].frame_index", "sequence is the frame"),
            ({}, [PointGrid(0, 2)], "points.grids[0].rows", "1 to 256"),
            ({}, [PointGrid(64, 64, first_point_id=10)], "points.points", "at most 4096"),
        ):
            with pytest.raises(InvalidRequest, match=message) as caught:
                await stream.add_points(points, grids=grids)
            assert caught.value.field == field
        found = await send_and_take(stream, frames[2:])
    assert [list(r.points.points) for r in found if r.points] == [[1]] * 4


async def test_equal_frames_have_the_points_of_the_first(client: AsyncClient) -> None:
    moved = moving(4, 3, 2)
    async with client.stream(motion_gate=4) as stream:
        await send_and_take(stream, moved[:1])
        await stream.add_points({1: (100.5, 80.5)})
        found = await send_and_take(stream, [*moved[1:3], moved[2], moved[2], moved[3]])
    assert [r.gated for r in found] == [False, False, True, True, False]
    assert [r.points is not None for r in found] == [True] * 5
    assert found[2].points == found[1].points
    last = found[4].points
    assert last is not None
    assert (last.points[1].x, last.points[1].y) == pytest.approx((109.5, 86.5), abs=0.7)


async def test_the_stages_of_points_are_in_the_trace_of_the_frame(mesh: Mesh, client: AsyncClient) -> None:
    frames = moving(3, 5, 1)
    async with client.stream() as stream:
        await send_and_take(stream, frames[:1])
        await stream.add_points(grids=[PointGrid(4, 4)])
        last = (await send_and_take(stream, frames[1:]))[-1]
    trace_id = last.frame.trace_id
    traces = await mesh.complete_traces([trace_id])
    spans = traces[trace_id].spans.values()
    names = {span.name for span in spans}
    assert names >= {telemetry.FRAME, telemetry.TRACK, telemetry.FETCH_EMBEDDING, telemetry.OPTICAL_FLOW}


@pytest.fixture(scope="module")
async def tapir(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    """A mesh with an untrained TAPIR."""
    flags = {kind: ["--point-model", "tapir-test"] for kind in ("encoder", "tracker")}
    async with running_mesh(
        tmp_path_factory.mktemp("traces"), MeshOptions(model="test", flags=flags)
    ) as mesh:
        yield mesh


async def test_tapir_catches_up_exactly(tapir: Mesh) -> None:
    """Points that are chosen on several frames at once, most of them long before the last one."""
    frames = moving(16, 3, 2)
    places = {1: (2, 100.5, 80.5), 2: (4, 150.5, 60.5), 3: (7, 200.5, 90.5), 4: (8, 120.5, 95.5)}
    async with AsyncClient(tapir.endpoint, timeout=60) as client:
        async with client.session() as session:
            await session.append_frames(frames)
            queries = [PointQuery(point_id, *place) for point_id, place in places.items()]
            expected = {f.frame_index: f async for f in session.track_points(queries)}
        async with client.stream() as stream:
            await send_and_take(stream, frames[:1])
            await stream.add_points({9: (50, 50)})
            await send_and_take(stream, frames[1:9])
            adding = [
                stream.add_points({point_id: (x, y)}, sequence=sequence)
                for point_id, (sequence, x, y) in places.items()
            ]
            await asyncio.gather(*adding, stream.remove_points([9]))
            found = await send_and_take(stream, frames[9:])
    for result in found:
        assert result.points is not None
        assert sorted(result.points.points) == [1, 2, 3, 4]
        wanted = expected[result.frame.frame_index].points
        near = [
            abs(p.x - wanted[i].x) < 0.01 and abs(p.y - wanted[i].y) < 0.01
            for i, p in result.points.points.items()
        ]
        assert np.mean(near) >= 0.75  # rounding may choose another cell


async def test_points_are_replaced_while_frames_are_in_progress(client: AsyncClient) -> None:
    """Frames that were sent before a removal may lose their points; those after the last change have them."""
    frames = moving(33, 3, 2)
    async with client.stream() as stream:
        results = asyncio.ensure_future(collect(stream))
        changes: list[asyncio.Task[object]] = []
        for index, frame in enumerate(frames):
            await stream.send(frame)
            if index % 5 == 4 and index < 25:
                # The commands are sent, and not waited for.
                if index > 4:
                    changes.append(asyncio.ensure_future(stream.remove_points()))
                    await asyncio.sleep(0)
                place = (100.5 + 3 * index, 80.5 + 2 * index)
                changes.append(asyncio.ensure_future(stream.add_points({1: place}, sequence=index)))
                await asyncio.sleep(0)
        await stream.finish()
        found = await asyncio.wait_for(results, 60)
        await asyncio.gather(*changes)
    assert [list(r.points.points) if r.points else [] for r in found[25:]] == [[1]] * 8
    for n, result in enumerate(found):
        if result.points is None or not result.points.points:
            continue
        point = result.points.points[1]
        assert (point.x, point.y) == pytest.approx((100.5 + 3 * n, 80.5 + 2 * n), abs=1)
