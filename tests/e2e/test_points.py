"""Points followed through stored videos."""

import csv
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from encoder_svc.model.config import POINT_PRESETS as ENCODERS
from encoder_svc.model.config import PointBackboneConfig
from encoder_svc.model.point_backbone import build as build_encoder
from encoder_svc.model.preprocess import preprocess
from maskmesh import (
    AsyncClient,
    FrameOutOfMemory,
    FramePoints,
    InvalidRequest,
    MaskFormat,
    MaskOptions,
    ObjectNotFound,
    PackedMask,
    PointGrid,
    PointQuery,
    telemetry,
)
from maskmesh.cli.mesh.local_mesh import MeshOptions
from maskmesh.masks import ByteArray
from maskmesh.media.video_reader import read_frames
from maskmesh.nn.image_features import PointFeatures
from tests.e2e.test_command import maskmesh
from tests.mesh import Mesh, running_mesh
from tracker_svc.points.components import build as build_tracker
from tracker_svc.points.config import POINT_PRESETS
from tracker_svc.points.tapir import PointEstimate, PointTrackingModel

WHEEL = (110, 262)
FRAMES = 16

TAPIR = MeshOptions(
    trackers=2, flags={kind: ["--point-model", "tapir-test"] for kind in ("encoder", "tracker")}
)


def moving(count: int, dx: float, dy: float) -> list[ByteArray]:
    """Noise that moves by so many pixels a frame."""
    large = np.random.default_rng(3).integers(0, 256, (60, 80, 3), np.uint8)
    large = np.kron(large, np.ones((8, 8, 1), np.uint8))
    return [
        np.ascontiguousarray(
            large[100 - round(n * dy) : 340 - round(n * dy), 100 - round(n * dx) : 420 - round(n * dx)]
        )
        for n in range(count)
    ]


async def test_points_follow_a_known_motion(client: AsyncClient) -> None:
    async with client.session() as session:
        await session.append_frames(moving(8, 3, 2))
        queries = [PointQuery(1, 0, 100.5, 80.5), PointQuery(2, 4, 200.5, 60.5)]
        frames = [frame async for frame in session.track_points(queries)]
    assert [frame.frame_index for frame in frames] == list(range(8))
    assert [set(frame.points) for frame in frames] == [{1}] * 4 + [{1, 2}] * 4
    for n, frame in enumerate(frames):
        first = frame.points[1]
        assert first.visible
        assert (first.x, first.y) == pytest.approx((100.5 + 3 * n, 80.5 + 2 * n), abs=0.5)
    assert frames[0].model is not None
    assert frames[0].model.name == "lucas-kanade"
    assert frames[1].model is None


async def test_a_point_that_leaves_the_picture_is_lost(client: AsyncClient) -> None:
    async with client.session() as session:
        await session.append_frames(moving(6, 12, 0))
        frames = [f async for f in session.track_points([PointQuery(1, 0, 300.5, 80.5)])]
    assert [f.points[1].visible for f in frames] == [True, True, False, False, False, False]
    assert frames[-1].points[1].confidence == 0


async def test_a_grid_lies_inside_the_mask_of_an_object(client: AsyncClient, clip: Path) -> None:
    packed = MaskOptions(MaskFormat.PACKED_BITS)
    async with client.session() as session:
        await session.append_video(clip)
        prompted = await session.add_prompt(0, 5, points=[WHEEL], mask_options=packed)
        grid = PointGrid(9, 9, obj_id=5, first_point_id=100)
        [frame] = [f async for f in session.track_points(grids=[grid], max_frames=1)]
        with pytest.raises(ObjectNotFound):
            await anext(session.track_points(grids=[PointGrid(2, 2, obj_id=6)]))
        with pytest.raises(FrameOutOfMemory):
            await anext(session.track_points(grids=[PointGrid(2, 2, frame_index=9, obj_id=5)]))
    mask = prompted.objects[5].mask
    assert isinstance(mask, PackedMask)
    pixels = mask.decode()
    assert 30 < len(frame.points) < 81
    assert list(frame.points) == list(range(100, 100 + len(frame.points)))
    assert all(pixels[int(p.y), int(p.x)] for p in frame.points.values())


async def test_points_are_followed_beside_a_propagation(client: AsyncClient, clip: Path) -> None:
    async with client.session() as session:
        await session.append_video(clip)
        await session.add_prompt(0, 1, points=[WHEEL])
        masks = session.propagate(max_frames=6)
        points = session.track_points(grids=[PointGrid(4, 4)], max_frames=6)
        for index in range(6):
            tracked, followed = await anext(masks), await anext(points)
            assert tracked.frame_index == followed.frame_index == index
            assert tracked.objects
        await masks.aclose()
        await points.aclose()


async def test_a_frame_has_its_stages_in_one_trace(mesh: Mesh, client: AsyncClient, fresh_clip: Path) -> None:
    async with client.session() as session:
        await session.append_video(fresh_clip)
        frames = [f async for f in session.track_points(grids=[PointGrid(4, 4)], max_frames=3)]
    last = frames[-1]
    assert set(last.stage_seconds) >= {telemetry.IMAGE_ENCODER, telemetry.OPTICAL_FLOW}
    spans = {
        telemetry.FRAME, telemetry.DECODE_IMAGE, telemetry.PREPROCESS, telemetry.IMAGE_ENCODER,
        telemetry.FETCH_EMBEDDING, telemetry.OPTICAL_FLOW,
    }  # fmt: skip
    traces = await mesh.complete_traces([last.trace_id], spans)
    assert {span.name for span in traces[last.trace_id].spans.values()} >= spans


@pytest.fixture(scope="module")
async def tapir(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    """Two trackers with an untrained TAPIR."""
    async with running_mesh(tmp_path_factory.mktemp("traces"), TAPIR) as mesh:
        yield mesh


QUERIES = [PointQuery(1, 0, 100, 250), PointQuery(2, 0, 530.5, 185.25), PointQuery(3, 5, 330, 62)]


def directly(frames: Sequence[ByteArray]) -> dict[int, torch.Tensor]:
    """Positions by the model alone, all frames at once, by point: [frames, 2] in shares of the picture."""
    config, tracker_config = ENCODERS["tapir-test"], POINT_PRESETS["tapir-test"]
    assert isinstance(config, PointBackboneConfig)
    encoder = build_encoder(config, None, torch.float32)
    tracker = build_tracker(tracker_config, None, torch.float32)
    assert isinstance(tracker, PointTrackingModel)
    size, device = config.image_size, torch.device("cpu")
    found = {}
    with torch.inference_mode():
        images = [
            preprocess(torch.from_numpy(f), size, device, torch.float32, config.normalization) for f in frames
        ]
        maps = PointFeatures(*(torch.cat(g) for g in zip(*(encoder(i) for i in images), strict=True)))
        for query in QUERIES:
            clip = PointFeatures(*(m[query.frame_index :] for m in maps))
            start = PointFeatures(*(m[:1] for m in clip))
            height, width, _ = frames[0].shape
            place = torch.tensor([[query.x / width * size, query.y / height * size]])
            points = tracker.query_features(start, place)
            estimates = tracker.refine(
                clip, points, tracker.initialize(clip, points), tracker.initial_state(1)
            )
            last: PointEstimate = estimates[-1]
            found[query.point_id] = last.positions[0] / size
    return found


def check(frames: Sequence[FramePoints], clip: Path) -> None:
    """The frames equal the model alone, but where rounding chooses another cell."""
    pictures = [picture for picture, _ in zip(read_frames(clip), range(FRAMES), strict=False)]
    height, width, _ = pictures[0].shape
    expected = directly(pictures)
    differences = []
    for frame in frames:
        for point_id, point in frame.points.items():
            first = next(q.frame_index for q in QUERIES if q.point_id == point_id)
            x, y = expected[point_id][frame.frame_index - first].tolist()
            differences.append(max(abs(point.x - x * width), abs(point.y - y * height)))
    assert np.mean(np.array(differences) < 0.01) > 0.95, differences


async def test_the_mesh_equals_the_model(tapir: Mesh, clip: Path) -> None:
    async with AsyncClient(tapir.endpoint, timeout=60) as client, client.session() as session:
        await session.append_video(clip)
        frames = [f async for f in session.track_points(QUERIES, max_frames=FRAMES)]
        again = [f async for f in session.track_points(QUERIES, max_frames=FRAMES)]
    check(frames, clip)
    check(again, clip)
    assert telemetry.IMAGE_ENCODER not in again[5].stage_seconds  # the features were cached
    assert set(frames[5].stage_seconds) >= {"point_query", "point_initialize", "point_refine"}


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
async def test_points_go_on_when_trackers_are_lost(tapir: Mesh, clip: Path, how: str) -> None:
    frames = []
    async with AsyncClient(tapir.endpoint, timeout=60) as client:
        session = await client.create_session()
        await session.append_video(clip)
        async for frame in session.track_points(QUERIES, max_frames=FRAMES):
            frames.append(frame)
            # One of them follows the points.
            for index, name in ((4, "tracker"), (9, "tracker-2")):
                if frame.frame_index == index:
                    tapir.local.kill(name, signal.Signals[how])
                if frame.frame_index == index + 2:
                    await tapir.local.restart(name)
    assert [f.frame_index for f in frames] == list(range(FRAMES))
    check(frames, clip)


async def test_a_broken_call_is_resumed(tapir: Mesh, clip: Path) -> None:
    async with AsyncClient(tapir.endpoint, timeout=60) as client, client.session() as session:
        await session.append_video(clip)
        frames = []
        async for frame in session.track_points(QUERIES, max_frames=FRAMES):
            frames.append(frame)
            if frame.frame_index == 7:
                break
        with pytest.raises(InvalidRequest) as caught:
            await anext(session.track_points([PointQuery(1, 3, 1, 1)], resume_token=frames[-1].resume_token))
        assert caught.value.field == "resume_token"
        rest = session.track_points(QUERIES, resume_token=frames[-1].resume_token)
        frames += [frame async for frame in rest]
    assert [f.frame_index for f in frames] == list(range(FRAMES))
    check(frames, clip)


async def test_a_call_with_points_on_many_early_frames_is_resumed(tapir: Mesh) -> None:
    """The frames on which points were chosen lie before those that are replayed: 16 with this model."""
    queries = [PointQuery(n, n, 100 + 5 * n, 80 + 2 * n) for n in range(24)]
    async with AsyncClient(tapir.endpoint, timeout=60) as client, client.session() as session:
        await session.append_frames(moving(52, 1, 1))
        whole = [f async for f in session.track_points(queries)]
        token = whole[47].resume_token
        rest = [f async for f in session.track_points(queries, resume_token=token)]
    assert [f.frame_index for f in rest] == list(range(48, 52))
    for frame, expected in zip(rest, whole[48:], strict=True):
        assert list(frame.points) == list(range(24))
        near = [
            abs(point.x - expected.points[n].x) < 0.1 and abs(point.y - expected.points[n].y) < 0.1
            for n, point in frame.points.items()
        ]
        assert np.mean(near) > 0.9


async def test_a_resumed_grid_has_the_points_of_the_first_mask(client: AsyncClient, clip: Path) -> None:
    grid = PointGrid(6, 6, obj_id=5)
    async with client.session() as session:
        await session.append_video(clip)
        await session.add_prompt(0, 5, points=[WHEEL])
        whole = [f async for f in session.track_points(grids=[grid], max_frames=6)]
        await session.add_prompt(0, 5, points=[(530, 185)], clear_previous=True)
        with pytest.raises(InvalidRequest, match="not those of the interrupted call"):
            await anext(session.track_points(grids=[grid], resume_token=whole[2].resume_token))
        placed = whole[0].placed
        rest = [f async for f in session.track_points(placed, resume_token=whole[2].resume_token)]
    assert not whole[1].placed
    assert [f.points for f in rest] == [f.points for f in whole[3:]]


async def test_points_at_the_edge_of_a_still_picture_stay(client: AsyncClient) -> None:
    [picture] = moving(1, 0, 0)
    height, width, _ = picture.shape
    queries = [PointQuery(1, 0, 0, 50), PointQuery(2, 0, width, 50), PointQuery(3, 0, 50, height)]
    async with client.session() as session:
        await session.append_frames([picture] * 3)
        frames = [f async for f in session.track_points(queries)]
    assert all(point.visible for point in frames[-1].points.values())


async def test_the_limit_of_points(tmp_path_factory: pytest.TempPathFactory) -> None:
    tapir = ["--point-model", "tapir-test"]
    options = MeshOptions(model="test", flags={"encoder": tapir, "tracker": [*tapir, "--max-points", "10"]})
    async with (
        running_mesh(tmp_path_factory.mktemp("traces"), options) as mesh,
        AsyncClient(mesh.endpoint, timeout=30) as client,
        client.session() as session,
    ):
        await session.append_frames(moving(3, 1, 1))
        with pytest.raises(Exception, match="exceed its limit of 10"):
            await anext(session.track_points(grids=[PointGrid(4, 4)]))
        # Other calls are not affected, and the points are given back.
        for _ in range(2):
            assert len([f async for f in session.track_points(grids=[PointGrid(3, 3)])]) == 3


async def test_a_mesh_without_a_model_for_points(tmp_path_factory: pytest.TempPathFactory) -> None:
    none = {kind: ["--point-model", ""] for kind in ("encoder", "tracker")}
    options = MeshOptions(model="test", flags=none)
    async with (
        running_mesh(tmp_path_factory.mktemp("traces"), options) as mesh,
        AsyncClient(mesh.endpoint, timeout=30) as client,
        client.session() as session,
    ):
        await session.append_frames(moving(2, 1, 1))
        with pytest.raises(InvalidRequest, match="--point-model"):
            await anext(session.track_points([PointQuery(1, 0, 1, 1)]))


async def test_the_command_writes_tracks_and_an_overlay(mesh: Mesh, clip: Path, tmp_path: Path) -> None:
    _, said = await maskmesh(
        "points", clip, "--endpoint", mesh.endpoint, "--grid", "8x8", "--inside", "110,262",
        "--point", "330,62", "--max-frames", "6", "--tracks", "tracks.csv", "-o", "points.mp4", cwd=tmp_path,
    )  # fmt: skip
    assert "lucas-kanade" in said
    with (tmp_path / "tracks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["frame"] for row in rows} == {str(n) for n in range(6)}
    assert (rows[0]["point"], float(rows[0]["x"]), rows[0]["visible"]) == ("1", 330.0, "1")
    drawn = list(read_frames(tmp_path / "points.mp4"))
    assert len(drawn) == 6
    plain = next(iter(read_frames(clip)))
    assert (np.abs(drawn[0].astype(int) - plain).max(axis=2) > 60).sum() > 100
