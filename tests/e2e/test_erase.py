"""Frames without chosen objects, through the whole mesh."""

import asyncio
import csv
import signal
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from maskmesh import (
    AsyncClient,
    ErasedFrame,
    EraseOptions,
    InvalidImage,
    InvalidRequest,
    NothingPrompted,
    ObjectNotFound,
    ResourceExhausted,
    VideoSession,
    telemetry,
)
from maskmesh.cli.mesh.local_mesh import MeshOptions
from maskmesh.masks import ByteArray
from maskmesh.media.video_reader import read_frames
from maskmesh.trace_report.attribution import UNNAMED, attribute_frames
from tests.e2e.test_command import maskmesh
from tests.mesh import Mesh, running_mesh
from tests.redis_server import needs_redis, running_redis

WHEEL, FLOWER = (110, 262), (530, 185)
RAW = EraseOptions(image_format="raw", feather=0)


async def erased(session: VideoSession, options: EraseOptions, count: int) -> list[ErasedFrame]:
    return [frame async for frame in session.erase(options, max_frames=count)]


def pictures(clip: Path, count: int) -> list[ByteArray]:
    return [picture for picture, _ in zip(read_frames(clip), range(count), strict=False)]


async def test_objects_are_erased_and_the_rest_is_untouched(client: AsyncClient, clip: Path) -> None:
    count = 6
    async with client.session() as session:
        await session.append_video(clip)
        await session.add_prompt(0, 1, points=[WHEEL])
        await session.add_prompt(0, 2, points=[FLOWER])
        masks = [frame async for frame in session.propagate(max_frames=count)]
        one = await erased(session, EraseOptions(obj_ids=[1], image_format="raw", dilation=3), count)
        both = await erased(session, EraseOptions(image_format="raw", dilation=3), count)
    sources = pictures(clip, count)
    assert [frame.frame_index for frame in one] == list(range(count))
    for frame, source, mask in zip(one, sources, masks, strict=True):
        pixels = frame.erased.decode()
        [wheel, flower] = [mask.objects[i].mask.decode() for i in (1, 2)]  # type: ignore[union-attr]
        changed = (pixels != source).any(axis=2)
        assert changed[wheel].mean() > 0.8
        assert not changed[flower].any()
        assert not changed[:, 300:].any(), "only the object and its edge change"
        assert 1 < (frame.erased.propagated_pixels + frame.erased.invented_pixels) / wheel.sum() < 1.5
        assert frame.time == mask.time
    assert one[0].erased.propagated_pixels == 0
    assert one[-1].erased.propagated_pixels > 0
    for frame, other in zip(both, one, strict=True):
        assert frame.erased.invented_pixels + frame.erased.propagated_pixels > (
            other.erased.invented_pixels + other.erased.propagated_pixels
        )


@pytest.mark.parametrize(("image_format", "start"), [("jpeg", b"\xff\xd8"), ("png", b"\x89PNG")])
async def test_formats(client: AsyncClient, clip: Path, image_format: str, start: bytes) -> None:
    async with client.session() as session:
        await session.append_video(clip)
        await session.add_prompt(0, 1, points=[WHEEL])
        options = EraseOptions(image_format=image_format)  # type: ignore[arg-type]
        [coded] = await erased(session, options, 1)
        [raw] = await erased(session, EraseOptions(image_format="raw"), 1)
    assert coded.erased.image.data.startswith(start)  # type: ignore[union-attr]
    difference = np.abs(coded.erased.decode().astype(int) - raw.erased.decode())
    assert difference.mean() < (1.5 if image_format == "jpeg" else 1e-9)


async def test_a_look_ahead_delays_and_loses_no_frame(client: AsyncClient, clip: Path) -> None:
    async with client.session() as session:
        await session.append_video(clip)
        await session.add_prompt(0, 1, points=[WHEEL])
        high = await erased(session, EraseOptions(preset="high", image_format="raw"), 14)
        short = await erased(session, EraseOptions(look_ahead=20, image_format="raw"), 3)
    assert [frame.frame_index for frame in high] == list(range(14))
    assert [frame.frame_index for frame in short] == [0, 1, 2]
    assert high[0].erased.propagated_pixels > 0, "later frames show what the first one hides"


async def test_stages_are_in_the_frame_s_trace(mesh: Mesh, client: AsyncClient, fresh_clip: Path) -> None:
    async with client.session() as session:
        await session.append_video(fresh_clip)
        await session.add_prompt(0, 1, points=[WHEEL])
        frames = await erased(session, EraseOptions(), 5)
    last = frames[-1]
    assert set(last.stage_seconds) >= {
        telemetry.IMAGE_ENCODER,
        telemetry.MASK_DECODER,
        telemetry.ERASE_FLOW,
        telemetry.ERASE_PROPAGATE,
        telemetry.ENCODE_IMAGE,
    }
    names: list[str] = []
    for _ in range(100):  # the gateway exports its own stages last
        traces = await mesh.complete_traces([last.trace_id])
        names = [span.name for span in traces[last.trace_id].spans.values()]
        if telemetry.ENCODE_IMAGE in names:
            break
        await asyncio.sleep(0.05)
    assert names.count(telemetry.ERASE_FLOW) == 1
    [frame] = attribute_frames(list(traces.values()))
    assert frame.by_name[UNNAMED] < 0.2 * frame.duration_ns


async def test_a_broken_call_is_resumed(client: AsyncClient, clip: Path) -> None:
    async with client.session() as session:
        await session.append_video(clip)
        await session.add_prompt(0, 1, points=[WHEEL])
        whole = await erased(session, RAW, 16)
        stream = session.erase(RAW, max_frames=16)
        first = [await anext(stream) for _ in range(12)]
        await stream.aclose()
        for number in (1, 12, 16):
            token = whole[number - 1].resume_token
            rest = [f async for f in session.erase(RAW, resume_token=token)]
            assert [frame.frame_index for frame in rest] == list(range(number, 16))
            for frame, expected in zip(rest, whole[number:], strict=True):
                difference = np.abs(frame.erased.decode().astype(int) - expected.erased.decode())
                assert difference.mean() < 0.2
    assert first[-1].resume_token.split(".")[:5] == whole[11].resume_token.split(".")[:5]


@pytest.fixture(scope="module")
async def one_eraser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    options = MeshOptions(flags={"gateway": ["--max-erasers", "1"]})
    async with running_mesh(tmp_path_factory.mktemp("traces"), options) as mesh:
        yield mesh


async def test_a_call_that_resumes_another_one_is_not_refused(one_eraser: Mesh, clip: Path) -> None:
    async with AsyncClient(one_eraser.endpoint, timeout=60) as client, client.session() as session:
        await session.append_video(clip)
        await session.add_prompt(0, 1, points=[WHEEL])
        stream = session.erase(RAW, max_frames=12)
        token = (await anext(stream)).resume_token
        rest = [f async for f in session.erase(RAW, resume_token=token)]
        assert len(rest) == 11
        await stream.aclose()


@pytest.mark.parametrize("look_ahead", [0, 5])
async def test_frames_before_a_broken_one_are_returned(
    client: AsyncClient, clip: Path, look_ahead: int
) -> None:
    files = [png(picture) for picture in pictures(clip, 10)]
    files[7] = files[7][: len(files[7]) // 2]
    async with client.session() as session:
        await session.append_frames(files)
        await session.add_prompt(0, 1, points=[WHEEL])
        frames = session.erase(EraseOptions(look_ahead=look_ahead))
        assert [(await anext(frames)).frame_index for _ in range(7)] == list(range(7))
        with pytest.raises(InvalidImage):
            await anext(frames)


def png(pixels: ByteArray) -> bytes:
    file = BytesIO()
    PillowImage.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
async def two_trackers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    traces = tmp_path_factory.mktemp("traces")
    async with (
        running_redis(tmp_path_factory.mktemp("redis")) as store,
        running_mesh(traces, MeshOptions(trackers=2), MASKMESH_SESSION_URL=store.url) as mesh,
    ):
        yield mesh


@needs_redis
@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
async def test_erasing_goes_on_when_a_tracker_is_lost(two_trackers: Mesh, clip: Path, how: str) -> None:
    mesh = two_trackers
    async with AsyncClient(mesh.endpoint, timeout=60) as client, client.session() as session:
        await session.append_video(clip)
        await session.add_prompt(0, 1, points=[WHEEL])
        seen = []
        async for frame in session.erase(RAW, max_frames=12):
            seen.append(frame.frame_index)
            assert frame.erased.propagated_pixels + frame.erased.invented_pixels > 1000
            # One of them tracks the session.
            for index, name in ((3, "tracker"), (7, "tracker-2")):
                if frame.frame_index == index:
                    mesh.local.kill(name, signal.Signals[how])
                if frame.frame_index == index + 2:
                    await mesh.local.restart(name)
        assert seen == list(range(12))


@pytest.mark.parametrize(
    ("options", "error", "field"),
    [
        (EraseOptions(obj_ids=[7]), ObjectNotFound, None),
        (EraseOptions(dilation=129), InvalidRequest, "options.dilation"),
        (EraseOptions(feather=65), InvalidRequest, "options.feather"),
        (EraseOptions(look_ahead=31), InvalidRequest, "options.look_ahead"),
        (EraseOptions(fill="model"), InvalidRequest, "options.fill"),
    ],
)
async def test_bad_options(
    client: AsyncClient, clip: Path, options: EraseOptions, error: type[Exception], field: str | None
) -> None:
    async with client.session() as session:
        await session.append_video(clip)
        await session.add_prompt(0, 1, points=[WHEEL])
        with pytest.raises(error) as caught:
            await erased(session, options, 2)
        assert getattr(caught.value, "metadata", {}).get("field") == field
        assert len(await erased(session, EraseOptions(), 1)) == 1, "the session goes on"


async def test_nothing_is_prompted(client: AsyncClient, clip: Path) -> None:
    async with client.session() as session:
        await session.append_video(clip)
        with pytest.raises(NothingPrompted):
            await erased(session, EraseOptions(), 1)


async def test_the_number_of_streams_is_bounded(one_eraser: Mesh, clip: Path) -> None:
    async with (
        AsyncClient(one_eraser.endpoint, timeout=60) as client,
        client.session() as one,
        client.session() as two,
    ):
        for session in (one, two):
            await session.append_video(clip)
            await session.add_prompt(0, 1, points=[WHEEL])
        stream = one.erase()
        await anext(stream)
        with pytest.raises(ResourceExhausted, match="objects of 1 sessions are erased"):
            await erased(two, EraseOptions(), 1)
        await stream.aclose()
        for _ in range(50):  # until the gateway has ended the cancelled call
            try:
                [frame] = await erased(two, EraseOptions(), 1)
                break
            except ResourceExhausted:
                await asyncio.sleep(0.1)
        assert frame.frame_index == 0


async def test_the_command_writes_a_video(mesh: Mesh, clip: Path, tmp_path: Path) -> None:
    output, report = tmp_path / "without.mp4", tmp_path / "report.csv"
    _, said = await maskmesh(
        *("erase", clip, "--endpoint", mesh.endpoint, "--frame", 2, "--point", "110,262"),
        *("-o", output, "--max-frames", 5, "--report", report),
        cwd=tmp_path,
    )
    assert "frames/s" in said
    assert len(list(read_frames(output))) == 7, "the frames before the prompt are in the video"
    rows = list(csv.DictReader(report.read_text().splitlines()))
    assert [int(row["frame"]) for row in rows] == [2, 3, 4, 5, 6]
    assert all(int(row["propagated_pixels"]) + int(row["invented_pixels"]) > 1000 for row in rows)


async def test_the_command_fills_an_image(mesh: Mesh, clip: Path, tmp_path: Path) -> None:
    [picture] = pictures(clip, 1)
    photo, output = tmp_path / "photo.png", tmp_path / "filled.png"
    PillowImage.fromarray(picture).save(photo)
    report = tmp_path / "report.csv"
    await maskmesh(
        *("erase", photo, "--endpoint", mesh.endpoint, "--point", "110,262"),
        *("-o", output, "--report", report),
        cwd=tmp_path,
    )
    [row] = csv.DictReader(report.read_text().splitlines())
    assert int(row["invented_pixels"]) > 1000
    filled = np.asarray(PillowImage.open(output))
    assert filled.shape == picture.shape
    changed = (filled != picture).any(axis=2)
    assert changed[WHEEL[1], WHEEL[0]]
    assert not changed[:, 300:].any()
