"""``maskmesh stream`` in its own process: budgets, records, commands while it runs, and its end."""

import asyncio
import csv
import fcntl
import json
import os
import pty
import signal
import struct
import sys
import termios
from pathlib import Path

import av
import numpy as np
import pytest

from maskmesh.media.video_reader import read_frames
from tests.e2e.test_command import maskmesh
from tests.mesh import Mesh

WHEEL = "110,262"


async def start(*arguments: object, cwd: Path, stdin: int | None = None) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "maskmesh.cli", "stream", *map(str, arguments)),
        cwd=cwd,
        stdin=asyncio.subprocess.PIPE if stdin is None else stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE if stdin is None else stdin,
        env={**os.environ, "TERM": "xterm"},
    )


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_a_stream_is_recorded_window_by_window(mesh: Mesh, fresh_clip: Path, tmp_path: Path) -> None:
    _, said = await maskmesh(
        "stream", fresh_clip, "--endpoint", mesh.endpoint, "--point", WHEEL, "--max-frames", "20",
        "--budget", "60000", "--window", "6", "--stride", "2", "--records", "run",
        cwd=tmp_path,
    )  # fmt: skip
    windows = lines(tmp_path / "run" / "windows.jsonl")
    assert [w["win"] for w in windows] == list(range(8))
    assert all(w["status"] == "OK" and w["budget_s"] == 60 for w in windows)
    assert windows[3].keys() >= {"t_image_encoder_s", "t_memory_attention_s", "t_total_s", "latency_s"}
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["frames"], summary["windows"], summary["ok_ratio"]) == (20, 8, 1)
    assert summary["steady"].keys() >= {"total", "model", "image_encoder"}
    assert summary["parameters"].keys() == {"encoder", "tracker"}
    kinds = {name.partition(" ")[0] for name in summary["peak_memory"]}
    assert kinds == {"command", "gateway", "encoder", "tracker"}
    assert lines(tmp_path / "run" / "usage.jsonl")
    assert "8 of 8 windows OK" in said


async def test_an_impossible_budget_lags(mesh: Mesh, clip: Path, tmp_path: Path) -> None:
    _, said = await maskmesh(
        "stream", clip, "--endpoint", mesh.endpoint, "--point", WHEEL, "--max-frames", "8",
        "--budget", "0.001", "--overload", "drop-oldest",
        cwd=tmp_path,
    )  # fmt: skip
    assert "budget 0 ms: 0 of" in said


async def test_a_still_scene_is_encoded_once(mesh: Mesh, clip: Path, tmp_path: Path) -> None:
    still = tmp_path / "still.mp4"
    with av.open(str(clip)) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    random = np.random.default_rng(0)
    with av.open(str(still), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "16"})
        stream.width, stream.height = picture.shape[1], picture.shape[0]
        for _ in range(40):
            noisy = np.clip(picture + random.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noisy, format="rgb24")))
        container.mux(stream.encode())
    _, said = await maskmesh(
        "stream", still, "--endpoint", mesh.endpoint, "--point", WHEEL, "--motion-gate",
        "--masks", "masks.jsonl",
        cwd=tmp_path,
    )  # fmt: skip
    found = lines(tmp_path / "masks.jsonl")
    assert len(found) == 40
    gated = [line for line in found if line.get("gated")]
    assert len(gated) >= 0.8 * 40
    assert f"motion gate at 4 grey levels: {len(gated)} of 40 encodes saved" in said
    assert all(len(line["objects"]) == 1 for line in gated)  # type: ignore[arg-type]


async def test_commands_come_from_a_pipe(mesh: Mesh, clip: Path, tmp_path: Path) -> None:
    process = await start(
        clip, "--endpoint", mesh.endpoint, "--paced", "--fps", "10", "--commands", "-",
        "--masks", "masks.jsonl",
        cwd=tmp_path,
    )  # fmt: skip
    assert process.stdin is not None
    masks = tmp_path / "masks.jsonl"

    async def send(*commands: str) -> None:
        assert process.stdin is not None
        process.stdin.write("".join(f"{command}\n" for command in commands).encode())
        await process.stdin.drain()

    async def objects_become(expected: set[int]) -> None:
        for _ in range(200):
            found = lines(masks) if masks.exists() else []
            if found and {o["obj_id"] for o in found[-1]["objects"]} == expected:  # type: ignore[attr-defined]
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"the objects are never {expected}")

    await objects_become(set())
    await send(f"point 1 {WHEEL}", "nonsense", "point 1 x,y", "box 2 465,120,600,250")
    await objects_become({1, 2})
    await send("remove 1", "remove 9", "pause")
    await asyncio.sleep(0.5)
    before = len(lines(masks))
    await asyncio.sleep(0.5)
    assert len(lines(masks)) == before
    await send("resume")
    await objects_become({2})
    await send("quit")
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    said = errors.decode()
    assert process.returncode == 0, said
    for line in (
        "object 1: prompted",
        "there is no command 'nonsense'",
        "'x,y' is not x,y[,label]",
        "paused",
    ):
        assert line in said
    assert "remove 9: " in said
    assert len(lines(masks)) < 60


async def test_typing_in_a_terminal(mesh: Mesh, clip: Path, tmp_path: Path) -> None:
    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    process = await start(
        clip, "--endpoint", mesh.endpoint, "--paced", "--fps", "5", "--masks", "masks.jsonl",
        cwd=tmp_path, stdin=terminal,
    )  # fmt: skip
    shown = bytearray()

    def read() -> None:
        chunk = os.read(main, 2**16)
        shown.extend(chunk)
        if b"\x1b[6n" in chunk:  # a terminal tells where its cursor is
            os.write(main, b"\x1b[1;1R")

    asyncio.get_running_loop().add_reader(main, read)

    async def wait_for(text: bytes) -> None:
        for _ in range(400):
            if text in shown:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"{text!r} is not shown: {bytes(shown[:1500]) + bytes(shown[-500:])!r}")

    try:
        await wait_for(b"type help")
        os.write(main, f"point 3 {WHEEL}\r".encode())
        await wait_for(b"object 3: prompted")
        await wait_for(b"object 3 ")  # in the line that is shown all the time
        os.write(main, b"\x03")  # Ctrl-C
        assert await asyncio.wait_for(process.wait(), 10) == 128 + signal.SIGINT
    finally:
        asyncio.get_running_loop().remove_reader(main)
        os.close(main)
        os.close(terminal)
    found = lines(tmp_path / "masks.jsonl")
    assert {o["obj_id"] for o in found[-1]["objects"]} == {3}  # type: ignore[attr-defined]


@pytest.mark.parametrize("source", ["silent", "paused"])
async def test_ctrl_c_ends_a_stream_whatever_its_source_does(
    mesh: Mesh, clip: Path, tmp_path: Path, source: str
) -> None:
    pipe = tmp_path / "silent.ts"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR)  # open, and silent
    given = pipe if source == "silent" else clip
    process = await start(
        given, "--endpoint", mesh.endpoint,
        "--point", WHEEL, "--commands", "-", "--paced", "--fps", "5",
        cwd=tmp_path,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(b"pause\n")
    await asyncio.sleep(3)
    process.send_signal(signal.SIGINT)
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    os.close(writer)
    assert process.returncode == 128 + signal.SIGINT, errors.decode()


async def test_points_and_their_actions_are_told(mesh: Mesh, clip: Path, tmp_path: Path) -> None:
    process = await start(
        clip, "--endpoint", mesh.endpoint, "--point", WHEEL, "--grid", "6x6", "--inside-object", "1",
        "--max-frames", "24", "--commands", "-", "--window", "4", "--stride", "2",
        "--energy-threshold", "0.005", "--motion", "motion.jsonl", "--tracks", "tracks.csv",
        "-o", "points.mp4",
        cwd=tmp_path,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(b"follow 20.5,20.5 30,30\nfollow 1x\nunfollow 900\n")
    _, said = await asyncio.wait_for(process.communicate(), 120)
    output = said.decode()
    assert process.returncode == 0, output
    assert "points 37 to 38 are followed" in output
    assert "'1x' is not ROWSxCOLUMNS" in output
    assert "the point 900 is not followed" in output
    first, *windows = lines(tmp_path / "motion.jsonl")
    assert first["options"]["window_length"] == 4  # type: ignore[index]
    assert [w["window"] for w in windows] == list(range(len(windows)))
    assert len(windows) >= 8
    assert "an action starts at frame" in output
    with (tmp_path / "tracks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"37", "38", "1"} <= {row["point"] for row in rows}
    assert rows[-1]["frame"] == "23"
    assert len(list(read_frames(tmp_path / "points.mp4"))) == 24


async def test_two_wrong_prompts_are_one_error(mesh: Mesh, clip: Path, tmp_path: Path) -> None:
    process = await start(
        *(clip, "--endpoint", mesh.endpoint, "--point", "99999,1", "--object", 2, "--point", "99999,2"),
        cwd=tmp_path,
    )
    _, said = await process.communicate()
    assert process.returncode == 1
    assert "lies outside the frame" in said.decode(), said.decode()
    assert "Traceback" not in said.decode()


async def test_options_of_points_are_checked(tmp_path: Path, clip: Path) -> None:
    for arguments, message in (
        (["--inside-object", "1"], "--inside-object places a --grid"),
        (["--grid", "2x2", "--inside-object", "3"], "--inside-object 3 has no --point"),
        (["--grid", "2x2", "--tokens"], "need a file for --motion"),
        (["--grid", "2"], "is not ROWSxCOLUMNS"),
    ):
        process = await start(clip, "--point", WHEEL, *arguments, cwd=tmp_path)
        _, said = await process.communicate()
        assert process.returncode == 2
        assert message in said.decode()
