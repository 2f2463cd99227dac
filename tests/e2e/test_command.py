"""The maskmesh command in separate processes."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from maskmesh import RleMask
from tests.golden import DATA, GOLDEN, needs_data, tiny_state
from tests.mesh import Mesh
from tools.make_sample import CLICKS, FOLDER, make_clip


async def maskmesh(*arguments: object, cwd: Path, status: int = 0) -> tuple[str, str]:
    """Run the command; returns its standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "maskmesh.cli", *map(str, arguments)),
        cwd=cwd,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "MASKMESH_TRACE_DIR": "traces", "OTEL_EXPORTER_OTLP_ENDPOINT": ""},
    )
    output, errors = (text.decode() for text in await process.communicate())
    assert process.returncode == status, errors
    return output, errors


def count_frames(video: Path) -> int:
    with av.open(str(video)) as container:
        return sum(1 for _ in container.decode(video=0))


async def test_segment_video_with_a_local_mesh_and_report(clip: Path, tmp_path: Path) -> None:
    _, said = await maskmesh(
        "segment", clip, "--point", "110,262", "--point", "5,5,0",
        "--object", "2", "--frame", "3", "--box", "465,120,600,250",
        "--max-frames", "8", "-o", "overlay.mp4", "--masks", "masks.json",
        cwd=tmp_path,
    )  # fmt: skip
    assert "micro at 256 x 256" in said
    assert "untrained" not in said
    assert "8 frames" in said
    assert count_frames(tmp_path / "overlay.mp4") == 8
    masks = json.loads((tmp_path / "masks.json").read_text())
    assert (masks["width"], masks["height"]) == (640, 360)
    assert [f["frame_index"] for f in masks["frames"]] == list(range(8))
    objects = masks["frames"][5]["objects"]
    assert [o["obj_id"] for o in objects] == [1, 2]
    height, width = objects[0]["segmentation"]["size"]
    counts = objects[0]["segmentation"]["counts"].encode()
    assert RleMask(height, width, counts).decode().shape == (360, 640)

    table, _ = await maskmesh("report", "traces", "-o", "waterfall.png", cwd=tmp_path)
    for word in ("image_encoder", "memory_attention", "first call", "tracked", "8 frames"):
        assert word in table
    with Image.open(tmp_path / "waterfall.png") as picture:
        assert picture.width > 800
    figures, _ = await maskmesh("report", "traces", "--json", "--frame", "4", cwd=tmp_path)
    report = json.loads(figures)
    assert report["summary"]["frames"] == 8
    assert sum(report["shares"].values()) == pytest.approx(1)


async def test_untrained_model_is_reported(tmp_path: Path) -> None:
    Image.fromarray(np.full((60, 90, 3), 80, np.uint8)).save(tmp_path / "picture.png")
    _, said = await maskmesh("segment", "picture.png", "--point", "45,30", "--model", "test", cwd=tmp_path)
    assert "untrained" in said


async def test_segment_sample_clip_with_truth(mesh: Mesh, tmp_path: Path) -> None:
    clicks: list[object] = []
    for obj_id, (x, y) in CLICKS.items():
        clicks += ["--object", obj_id, "--point", f"{x},{y}"]
    _, said = await maskmesh(
        "segment", FOLDER / "clip.mp4", *clicks, "--max-frames", 10, "--endpoint", mesh.endpoint,
        "--truth", FOLDER / "masks.json", cwd=tmp_path,
    )  # fmt: skip
    for obj_id in CLICKS:
        line = next(line for line in said.splitlines() if line.startswith(f"object {obj_id}: mean IoU"))
        assert float(line.split()[4]) > 0.8
        assert "on the 10 frames that show it" in line


async def test_segment_image_with_a_running_mesh(mesh: Mesh, tmp_path: Path) -> None:
    Image.fromarray(np.full((60, 90, 3), 80, np.uint8)).save(tmp_path / "picture.png")
    await maskmesh(
        "segment", "picture.png", "--point", "45,30", "--multimask", "--endpoint", mesh.endpoint,
        "-o", "overlay.png", "--masks", "masks.json", cwd=tmp_path,
    )  # fmt: skip
    with Image.open(tmp_path / "overlay.png") as picture:
        assert picture.size == (90, 60)
    frames = json.loads((tmp_path / "masks.json").read_text())["frames"]
    assert len(frames[0]["objects"]) == 3


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--point", "700,20"], 1, "prompt.points[0].x"),
        (["--point", "20"], 2, "x,y[,label]"),
        (["--box", "1,2,3"], 2, "x0,y0,x1,y1"),
        (["--frame", "99", "--point", "2,2"], 1, "frame_index"),
        ([], 2, "--point"),
    ],
)
async def test_invalid_arguments_are_named(
    mesh: Mesh, clip: Path, tmp_path: Path, arguments: list[str], status: int, message: str
) -> None:
    _, said = await maskmesh(
        "segment", clip, "--endpoint", mesh.endpoint, *arguments, cwd=tmp_path, status=status
    )
    assert message in said
    assert "Traceback" not in said


async def test_up_serves_until_sigint(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "maskmesh.cli", "up", "--port", "0"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "MASKMESH_TRACE_DIR": "traces"},
    )
    assert process.stdout is not None
    ready = (await process.stdout.readline()).decode()
    endpoint = ready.rsplit(maxsplit=1)[-1]
    Image.fromarray(np.full((60, 90, 3), 80, np.uint8)).save(tmp_path / "picture.png")
    await maskmesh("segment", "picture.png", "--point", "4,3", "--endpoint", endpoint, cwd=tmp_path)
    process.send_signal(signal.SIGINT)
    _, said = await process.communicate()
    log = said.decode()
    # All three services write to one log, and each caller stops before the services that it calls.
    stopped = [line.split()[0] for line in log.splitlines() if line.endswith("stopped")]
    assert stopped[:3] == ["gateway", "tracker", "encoder"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "sam2.1-tiny"], "sam2.1-tiny needs a checkpoint"),
        (["--model", "sam9"], "there is no model 'sam9'"),
        (["--image-size", "100"], "multiple of 32"),
    ],
)
async def test_mesh_start_failure_is_reported(
    clip: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    _, said = await maskmesh("segment", clip, "--point", "1,1", *arguments, cwd=tmp_path, status=1)
    assert message in said
    assert "Traceback" not in said


@needs_data
async def test_segment_a_real_clip(tmp_path: Path) -> None:
    _, said = await maskmesh(
        "segment", DATA / "clips" / "bedroom.mp4", "--point", "480,270",
        "--max-frames", "60", "-o", "overlay.mp4", "--masks", "masks.json", cwd=tmp_path,
    )  # fmt: skip
    assert "60 frames" in said
    assert count_frames(tmp_path / "overlay.mp4") == 60
    figures, _ = await maskmesh("report", "traces", "--json", cwd=tmp_path)
    summary = json.loads(figures)["summary"]
    assert summary["frames"] == 60
    assert summary["unnamed_share"] < 0.05


@needs_data
@pytest.mark.timeout(600)
async def test_segment_with_a_sam2_1_tiny_checkpoint(tmp_path: Path) -> None:
    """Three frames at 1024 x 1024 with sam2.1-tiny: random weights in the official checkpoint format."""
    import torch

    assert GOLDEN.is_dir()
    torch.save({"model": tiny_state()}, tmp_path / "tiny.pt")
    _, said = await maskmesh(
        "segment", DATA / "clips" / "bedroom.mp4", "--point", "480,270", "--max-frames", "3",
        "--model", "sam2.1-tiny", "--checkpoint", "tiny.pt", "--masks", "masks.json", cwd=tmp_path,
    )  # fmt: skip
    assert "sam2.1-tiny at 1024 x 1024" in said
    assert "3 frames" in said
    assert len(json.loads((tmp_path / "masks.json").read_text())["frames"]) == 3
    figures, _ = await maskmesh("report", "traces", "--json", cwd=tmp_path)
    report = json.loads(figures)
    assert report["summary"]["frames"] == 3
    assert {"image_encoder", "memory_attention", "mask_decoder", "memory_encoder"} <= set(report["shares"])


async def test_stream_from_a_file(mesh: Mesh, clip: Path, tmp_path: Path) -> None:
    _, said = await maskmesh(
        "stream", clip, "--endpoint", mesh.endpoint, "--point", "110,262",
        "--object", "2", "--frame", "5", "--box", "465,120,600,250",
        "--max-frames", "12", "-o", "overlay.mp4", "--masks", "masks.jsonl",
        cwd=tmp_path,
    )  # fmt: skip
    assert "micro at 256 x 256" in said
    assert "12 frames in" in said
    assert "frames without a result: 0 skipped" in said
    assert "memory_attention" in said
    assert count_frames(tmp_path / "overlay.mp4") == 12
    lines = [json.loads(line) for line in (tmp_path / "masks.jsonl").read_text().splitlines()]
    assert [line["sequence"] for line in lines] == list(range(12))
    assert [o["obj_id"] for o in lines[2]["objects"]] == [1]
    assert [o["obj_id"] for o in lines[6]["objects"]] == [1, 2]


async def test_stream_from_a_url(mesh: Mesh, tmp_path: Path) -> None:
    """FFmpeg reads a URL as fast as the connection allows, so the gateway skips frames."""
    clip = tmp_path / "clip.ts"
    make_clip(clip, 60)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        content = clip.read_bytes()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\nConnection: close\r\n")
        writer.write(f"Content-Length: {len(content)}\r\n\r\n".encode() + content)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        _, said = await maskmesh(
            "stream", f"http://127.0.0.1:{port}/clip.ts", "--endpoint", mesh.endpoint,
            "--point", "110,262", "--masks", "masks.jsonl", cwd=tmp_path,
        )  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "masks.jsonl").read_text().splitlines()]
    assert lines[0]["sequence"] == 0
    assert lines[-1]["sequence"] == 59
    assert f"{len(lines)} frames in" in said
    assert f"frames without a result: {60 - len(lines)} skipped" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("missing.mp4", "--point", "1,1"), "there is no file missing.mp4"),
        (("missing.mp4",), "at least one --point, --box, --concept, --grid or --commands is needed"),
        (("CLIP", "--point", "9999,1"), "prompt.prompt.points[0].x"),
        (("CLIP", "--point", "1,1", "--model", "test"), "--model has no effect with --endpoint"),
        (("CLIP", "--frame", "7", "--point", "1,1", "--max-frames", "5"), "--frame 7"),
    ],
)
async def test_invalid_stream_arguments_are_named(
    mesh: Mesh, clip: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    given = [clip if a == "CLIP" else a for a in arguments]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "maskmesh.cli", "stream", *map(str, given), "--endpoint", mesh.endpoint),
        cwd=tmp_path, stderr=asyncio.subprocess.PIPE, env=os.environ | {"MASKMESH_TRACE_DIR": ""},
    )  # fmt: skip
    _, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode not in (0, None)
    assert message in errors.decode()
