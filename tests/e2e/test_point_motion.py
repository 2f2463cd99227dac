"""The motion of followed points, in windows of frames."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from maskmesh import AsyncClient, InvalidRequest, MotionOptions, MotionThreshold, PointGrid, telemetry
from maskmesh.cli.mesh.local_mesh import MeshOptions
from tests.e2e.test_command import maskmesh
from tests.e2e.test_points import moving
from tests.mesh import Mesh, running_mesh
from tracker_svc.points.motion_tokenizer import MotionTokenizer


async def test_motion_is_in_windows(client: AsyncClient) -> None:
    """Six frames in motion, then still ones."""
    moved = moving(10, 8, 0)
    frames = [*moved, *[moved[-1]] * 8]
    options = MotionOptions(
        window_length=4, window_stride=2, velocity_scale=10, energy_threshold=0.4,
        motion_gate=MotionThreshold(0.02, 0.025),
    )  # fmt: skip
    async with client.session() as session:
        await session.append_frames(frames)
        results = [f async for f in session.track_points(grids=[PointGrid(4, 4)], motion=options)]
    windows = [window for frame in results for window in frame.motion_windows]
    assert [w.first_frame_index for w in windows] == [0, 2, 4, 6, 8, 10, 12, 14]
    assert all(w.last_frame_index == w.first_frame_index + 3 for w in windows)
    assert [w.status for w in windows] == ["moving"] * 4 + ["moving"] + ["still"] * 3
    assert windows[0].mean_velocity == pytest.approx(0.8, abs=0.05)
    assert windows[0].points == 16
    events = [(b.kind, b.frame_index, b.code) for w in windows for b in w.boundaries]
    assert events == [("start", 3, None), ("end", 15, None)]


async def test_motion_has_codes(tmp_path_factory: pytest.TempPathFactory) -> None:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("motion") / "motion.safetensors"
    save_file(MotionTokenizer(num_points=9, hidden_dim=64).state_dict(), path)
    options = MeshOptions(flags={"tracker": ["--motion-checkpoint", str(path)]})
    motion = MotionOptions(window_length=5, window_stride=5, tokens=True)
    async with (
        running_mesh(tmp_path_factory.mktemp("traces"), options) as mesh,
        AsyncClient(mesh.endpoint, timeout=60) as client,
        client.session() as session,
    ):
        await session.append_frames(moving(10, 8, 2))
        frames = [f async for f in session.track_points(grids=[PointGrid(3, 3)], motion=motion)]
        with pytest.raises(InvalidRequest, match=r"reads 9 points .* there are 4 on 1") as caught:
            async for _ in session.track_points(grids=[PointGrid(2, 2)], motion=motion):
                pass
    assert caught.value.field == "motion.tokens"
    windows = [window for frame in frames for window in frame.motion_windows]
    assert [len(window.codes) for window in windows] == [4, 4]
    assert all(0 <= code < 1920 for window in windows for code in window.codes)
    assert windows[0].energy > 0
    assert telemetry.MOTION_TOKENIZER in frames[4].stage_seconds


async def test_a_mesh_without_a_tokenizer_says_so(client: AsyncClient) -> None:
    async with client.session() as session:
        await session.append_frames(moving(4, 8, 2))
        motion = MotionOptions(window_length=2, window_stride=2, tokens=True)
        with pytest.raises(InvalidRequest, match="--motion-checkpoint") as caught:
            async for _ in session.track_points(grids=[PointGrid(3, 3)], motion=motion):
                pass
    assert caught.value.field == "motion.tokens"


async def test_the_command_writes_motion_and_records(mesh: Mesh, clip: Path, tmp_path: Path) -> None:
    _, said = await maskmesh(
        "points", clip, "--endpoint", mesh.endpoint, "--grid", "4x4", "--max-frames", 12,
        "--motion", "motion.json", "--window", 6, "--stride", 3, "--records", "run", "--fps", 10,
        cwd=tmp_path,
    )  # fmt: skip
    content = json.loads((tmp_path / "motion.json").read_text())
    assert [w["last_frame_index"] for w in content["windows"]] == [5, 8, 11]
    assert content["options"]["window_length"] == 6
    assert "of 3 windows have motion" in said
    windows = [json.loads(line) for line in (tmp_path / "run" / "windows.jsonl").read_text().splitlines()]
    assert len(windows) == 3
    assert {"win", "t_total_s", "t_optical_flow_s", "budget_s", "slack_s", "status"} <= windows[0].keys()
