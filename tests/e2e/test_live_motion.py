"""The motion of points in live streams."""

import pytest
import torch
from safetensors.torch import save_file

from maskmesh import (
    AsyncClient,
    InvalidRequest,
    MotionOptions,
    MotionThreshold,
    PointGrid,
)
from maskmesh.cli.mesh.local_mesh import MeshOptions
from tests.e2e.test_live_points import send_and_take
from tests.e2e.test_points import moving
from tests.mesh import running_mesh
from tracker_svc.points.motion_tokenizer import MotionTokenizer


async def test_motion_is_computed_in_a_stream(client: AsyncClient) -> None:
    moved = moving(11, 8, 0)
    options = MotionOptions(window_length=4, window_stride=2, velocity_scale=10, energy_threshold=0.4)
    async with client.stream(motion=options) as stream:
        await send_and_take(stream, moved[:1])
        await stream.add_points(grids=[PointGrid(4, 4)])
        found = await send_and_take(stream, [*moved[1:], *[moved[-1]] * 8])
        await stream.finish()
        async for _ in stream:
            pass
    windows = [window for result in found for window in result.motion_windows]
    assert [w.first_frame_index for w in windows] == [1, 3, 5, 7, 9, 11, 13, 15]
    assert [w.status for w in windows] == ["moving"] * 5 + ["still"] * 3
    assert windows[0].mean_velocity == pytest.approx(0.8, abs=0.05)
    events = [boundary for w in windows for boundary in w.boundaries]
    assert [(b.kind, b.frame_index) for b in events] == [("start", 4), ("end", 16)]
    assert events[0].time is not None
    assert 0 < events[0].time < 60
    assert stream.summary is not None
    assert stream.summary.dropped_motion_windows == 0


async def test_options_of_motion_are_checked(client: AsyncClient) -> None:
    for motion, field in (
        (MotionOptions(window_length=1), "config.motion.window_length"),
        (MotionOptions(tokens=True), "config.motion.tokens"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            async with client.stream(motion=motion):
                pass
        assert caught.value.field == field


async def test_windows_with_tokens(tmp_path_factory: pytest.TempPathFactory) -> None:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("motion") / "motion.safetensors"
    save_file(MotionTokenizer(num_points=9, hidden_dim=64).state_dict(), path)
    options = MeshOptions(flags={"tracker": ["--motion-checkpoint", str(path)]})
    motion = MotionOptions(window_length=5, window_stride=5, tokens=True)
    async with (
        running_mesh(tmp_path_factory.mktemp("traces"), options) as mesh,
        AsyncClient(mesh.endpoint, timeout=60) as client,
        client.stream(motion=motion) as stream,
    ):
        frames = moving(22, 4, 2)
        await send_and_take(stream, frames[:1])
        await stream.add_points(grids=[PointGrid(3, 3)])
        found = await send_and_take(stream, frames[1:11])
        await stream.add_points({100: (100.5, 80.5)})
        found += await send_and_take(stream, frames[11:21])
        await stream.send(frames[21])
        await stream.finish()
        found += [result async for result in stream]
    assert stream.summary is not None
    windows = [window for result in found for window in result.motion_windows]
    assert len(windows) + stream.summary.dropped_motion_windows == 4
    assert {w.status for w in windows} == {"moving", "other_points"}
    assert all(len(w.codes) == (4 if w.points == 9 else 0) for w in windows)


async def test_a_number_that_is_used_again_is_no_motion(client: AsyncClient) -> None:
    still = moving(1, 0, 0)[0]
    options = MotionOptions(
        window_length=3, window_stride=1, velocity_scale=1, still_gate=MotionThreshold(0, 0)
    )
    async with client.stream(motion=options) as stream:
        await send_and_take(stream, [still])
        await stream.add_points({1: (100.5, 80.5), 2: (60.5, 60.5)})
        found = await send_and_take(stream, [still] * 4)
        await stream.remove_points([1])
        await stream.add_points({1: (200.5, 100.5)})
        found += await send_and_take(stream, [still] * 5)
    windows = [window for result in found for window in result.motion_windows]
    assert len(windows) == 7
    assert all(window.mean_velocity < 0.2 for window in windows)
    assert [window.points for window in windows] == [2, 2, 1, 1, 2, 2, 2]
