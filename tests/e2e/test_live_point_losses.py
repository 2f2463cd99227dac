"""Points of live streams without a tracker, without a connection, without room, and without a model."""

import signal

import pytest

from maskmesh import (
    AsyncClient,
    InvalidRequest,
    PointGrid,
    ResourceExhausted,
)
from maskmesh.cli.mesh.local_mesh import MeshOptions
from tests.e2e.test_live_points import send_and_take
from tests.e2e.test_points import moving
from tests.e2e.test_resume import Gateway
from tests.mesh import Mesh, running_mesh


async def test_points_outlive_their_tracker(tmp_path_factory: pytest.TempPathFactory) -> None:
    frames = moving(30, 3, 2)
    found = []
    async with (
        running_mesh(tmp_path_factory.mktemp("traces"), MeshOptions(trackers=2)) as mesh,
        AsyncClient(mesh.endpoint, timeout=60) as client,
        client.stream() as stream,
    ):
        await send_and_take(stream, frames[:1])
        # The second one leaves the picture, and is lost with the tracker.
        await stream.add_points({1: (100.5, 80.5), 2: (300.5, 80.5)})
        for start, name in ((1, "tracker"), (11, "tracker-2"), (21, "")):
            found += await send_and_take(stream, frames[start : start + 9])
            if name:
                mesh.local.kill(name, signal.SIGKILL)
                found += await send_and_take(stream, frames[start + 9 : start + 10])
                await mesh.local.restart(name)
    assert [r.sequence for r in found] == list(range(1, 30))
    for n, result in enumerate(found, start=1):
        assert result.points is not None
        point = result.points.points[1]
        assert point.visible
        assert (point.x, point.y) == pytest.approx((100.5 + 3 * n, 80.5 + 2 * n), abs=1)
    assert [i for r in found for i in r.lost_points] == [2]
    assert found[-1].points is not None
    assert list(found[-1].points.points) == [1]


async def test_points_outlive_a_broken_connection(mesh: Mesh) -> None:
    line = Gateway(mesh.local.ports["gateway"])
    frames = moving(20, 3, 2)
    found = []
    async with (
        AsyncClient(f"127.0.0.1:{await line.start()}", timeout=60) as client,
        client.stream() as stream,
    ):
        await send_and_take(stream, frames[:1])
        await stream.add_points({1: (100.5, 80.5), 2: (300.5, 80.5), 3: (120.5, 90.5)})
        found += await send_and_take(stream, frames[1:8])
        assert await stream.remove_points([3]) == [1, 2]
        line.cut()
        found += await send_and_take(stream, frames[8:12])
        line.cut()
        found += await send_and_take(stream, frames[12:])
    await line.stop()
    for n, result in enumerate(found, start=1):
        assert result.points is not None
        point = result.points.points[1]
        assert (point.x, point.y) == pytest.approx((100.5 + 3 * n, 80.5 + 2 * n), abs=1)
    assert [i for r in found for i in r.lost_points] == [2]
    assert list(found[7].points.points) == [1]  # type: ignore[union-attr]


async def test_points_of_tapir_have_a_limit(tmp_path_factory: pytest.TempPathFactory) -> None:
    tapir = ["--point-model", "tapir-test"]
    options = MeshOptions(model="test", flags={"encoder": tapir, "tracker": [*tapir, "--max-points", "10"]})
    async with (
        running_mesh(tmp_path_factory.mktemp("traces"), options) as mesh,
        AsyncClient(mesh.endpoint, timeout=60) as client,
        client.stream() as stream,
    ):
        frames = moving(8, 1, 1)
        await send_and_take(stream, frames[:1])
        await stream.add_points(grids=[PointGrid(2, 4)])
        with pytest.raises(ResourceExhausted, match="no room for 12 points"):
            await stream.add_points(grids=[PointGrid(2, 2, first_point_id=20)])
        first = await send_and_take(stream, frames[1:3])
        await stream.remove_points([1, 2])
        await stream.add_points(grids=[PointGrid(2, 2, first_point_id=20)])
        second = await send_and_take(stream, frames[3:6])
        # Room is given back with the points.
        await stream.remove_points()
        await stream.add_points(grids=[PointGrid(2, 5, first_point_id=50)])
        third = await send_and_take(stream, frames[6:])
    counts = [len(r.points.points) if r.points else 0 for part in (first, second, third) for r in part]
    assert counts == [8, 8, 10, 10, 10, 10, 10]
    assert {"point_initialize", "point_refine"} <= set(first[0].frame.stage_seconds)


async def test_a_mesh_without_a_model_for_points(tmp_path_factory: pytest.TempPathFactory) -> None:
    none = {kind: ["--point-model", ""] for kind in ("encoder", "tracker")}
    options = MeshOptions(model="test", flags=none)
    async with (
        running_mesh(tmp_path_factory.mktemp("traces"), options) as mesh,
        AsyncClient(mesh.endpoint, timeout=30) as client,
        client.stream() as stream,
    ):
        frames = moving(3, 1, 1)
        await send_and_take(stream, frames[:1])
        with pytest.raises(InvalidRequest, match="--point-model"):
            await stream.add_points({1: (5, 5)})
        assert len(await send_and_take(stream, frames[1:])) == 2
