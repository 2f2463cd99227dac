"""Output files of the command: checked before the work, whole at any moment."""

import asyncio
import json
import os
import subprocess
import sys
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from maskmesh.cli.main import main
from maskmesh.cli.media.outputs import MasksFile, check_outputs, check_suffix
from maskmesh.cli.media.overlay import VIDEO_CODECS, OverlayThread, VideoWriter
from maskmesh.cli.segment import folder_frames
from tests.corpus.pictures import picture
from tests.corpus.videos import WIDTH, column, disc, seen_column, write


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "x.mkv", range(3))


def links(source: Path) -> list[Path]:
    """Names of the same file."""
    symbolic, hard = source.with_name("symbolic.mkv"), source.with_name("hard.mkv")
    symbolic.symlink_to(source)
    os.link(source, hard)
    inside = source.parent / "folder" / ".." / source.name
    inside.parent.parent.mkdir()
    return [source, symbolic, hard, inside, Path(os.path.relpath(source))]


@pytest.mark.parametrize("command", ["segment", "stream"])
@pytest.mark.parametrize("option", ["-o", "--masks"])
def test_an_input_is_never_overwritten(source: Path, command: str, option: str) -> None:
    before = source.read_bytes()
    for name in links(source):
        result = CliRunner().invoke(main, [command, str(source), "--point", "1,1", option, str(name)])
        assert result.exit_code == 2
        assert "would overwrite the input" in result.output
    assert source.read_bytes() == before


def test_other_inputs_are_not_overwritten(source: Path, tmp_path: Path) -> None:
    truth, traces = tmp_path / "truth.json", tmp_path / "a.jsonl"
    truth.write_text("{}")
    traces.write_text("{}")
    frames = tmp_path / "frames"
    frames.mkdir()
    (frames / "1.png").write_bytes(picture())
    for arguments in (
        ["segment", source, "--point", "1,1", "--truth", truth, "--masks", truth],
        ["segment", frames, "--point", "1,1", "--masks", frames / "1.png"],
        ["report", traces, "-o", traces],
    ):
        result = CliRunner().invoke(main, [str(a) for a in arguments])
        assert result.exit_code == 2
        assert "would overwrite the input" in result.output
    assert truth.read_text() == "{}"


def test_two_outputs_are_two_files(source: Path, tmp_path: Path) -> None:
    outputs = {"--output": tmp_path / "o.mp4", "--masks": tmp_path / "a" / ".." / "o.mp4"}
    (tmp_path / "a").mkdir()
    with pytest.raises(click.UsageError, match="--output and --masks name the same file"):
        check_outputs([source], outputs)


def test_outputs_that_cannot_be_written_are_named(source: Path, tmp_path: Path) -> None:
    for path, message in (
        (tmp_path / "no" / "m.json", "there is no folder"),
        (tmp_path, "is a folder"),
        (Path("/proc/m.json"), "cannot be written"),
        (source / "m.json", "there is no folder"),
    ):
        with pytest.raises(click.UsageError, match=message):
            check_outputs([source], {"--masks": path})
    check_outputs([source], {"--masks": tmp_path / "m.json", "--output": None})
    assert not (tmp_path / "m.json").exists()


@pytest.mark.parametrize("name", ["o.xyz", "o", "o.json", "o.avi"])
def test_unknown_suffixes_are_named(name: str) -> None:
    for is_video in (True, False):
        with pytest.raises(click.UsageError, match="has one of the suffixes"):
            check_suffix("-o", Path(name), is_video=is_video)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-frames", "-5"], "-5 is not in the range"),
        (["--multimask"], "--multimask is for images"),
        (["-o", "o.png"], "a video has one of the suffixes"),
    ],
)
def test_options_are_checked_before_the_work(source: Path, arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["segment", str(source), "--point", "1,1", *arguments])
    assert result.exit_code == 2
    assert message in result.output


def test_sources_are_told_apart(tmp_path: Path) -> None:
    heic = tmp_path / "photo.jpg"
    heic.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
    for name, message in (
        ("http://host/x.mp4", "for cameras and URLs use maskmesh stream"),
        (str(heic), "HEIC is not taken as an image: convert it to JPEG or PNG"),
        (str(tmp_path / "none.mp4"), "does not exist"),
    ):
        result = CliRunner().invoke(main, ["segment", name, "--point", "1,1"])
        assert result.exit_code == 2
        assert message in result.output


def test_frames_of_a_folder_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("10.jpg", "9.jpg", "frame_2.png", "frame_12.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    assert [p.name for p in folder_frames(tmp_path)] == ["9.jpg", "10.jpg", "frame_2.png", "frame_12.png"]


def test_masks_are_whole_after_every_frame(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text("an older file that is longer than what follows" * 99)
    with MasksFile(path, {"source": "é.mp4", "width": 4}) as file:
        assert "older" in path.read_text(), "nothing is overwritten before the first frame"
        for number in range(5):
            file.write({"frame_index": number, "objects": ["x" * (5 - number)]})
            content = json.loads(path.read_text())
            assert [frame["frame_index"] for frame in content["frames"]] == list(range(number + 1))
    assert content["source"] == "é.mp4"


def times_of(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.time or 0) for frame in container.decode(video=0)]


@pytest.mark.parametrize("suffix", VIDEO_CODECS)
def test_overlay_has_the_times_and_the_aspect_of_its_source(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"o{suffix.upper() if suffix == '.mp4' else suffix}"
    times = [0.0, 0.01, 0.4, 0.41, 0.42, 2.0]
    with VideoWriter(path, frames_per_second=3.0, pixel_aspect=Fraction(16, 11)) as writer:
        for number, time in enumerate(times):
            writer.write(disc(number), time)
    written = times_of(path)
    np.testing.assert_allclose(np.array(written) - written[0], times, atol=2e-3)
    if suffix != ".ts":
        assert written[0] == pytest.approx(0, abs=1e-3)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        shown_width = stream.width * float(stream.sample_aspect_ratio or 1)
    assert shown_width == pytest.approx(WIDTH * 16 / 11, abs=1)


def test_equal_and_missing_times_make_no_holes(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "o.mp4", frames_per_second=0.06) as writer:
        for number, time in enumerate((0.0, 0.0, 0.0, 5.0, 4.0)):
            writer.write(disc(number), time)
    assert len(times_of(tmp_path / "o.mp4")) == 5
    with VideoWriter(tmp_path / "p.mp4", frames_per_second=0.0) as writer:
        for number in range(5):
            writer.write(disc(number))
    np.testing.assert_allclose(times_of(tmp_path / "p.mp4"), [0, 0.04, 0.08, 0.12, 0.16], atol=1e-3)


async def test_overlay_is_whole_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "o.mp4"
    thread = OverlayThread(VideoWriter(path, frames_per_second=25.0))
    for number in range(30):
        await thread.submit(partial(disc, number), {}, number / 25)
    with pytest.raises(KeyError):
        async with thread:
            raise KeyError("the work failed")
    with av.open(str(path)) as container:
        shown = [seen_column(f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    np.testing.assert_allclose(shown, [column(i) for i in range(30)], atol=1.5)


async def test_errors_of_the_overlay_are_raised_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> np.ndarray:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"):
        async with OverlayThread(VideoWriter(tmp_path / "o.mp4", frames_per_second=25)) as thread:
            await thread.submit(fail, {}, None)
    whole = VideoWriter.close

    def close_and_fail(writer: VideoWriter) -> None:
        whole(writer)
        fail()

    monkeypatch.setattr(VideoWriter, "close", close_and_fail)
    with pytest.raises(OSError, match="disk is full"):
        async with OverlayThread(VideoWriter(tmp_path / "p.mp4", frames_per_second=25)) as thread:
            await thread.submit(partial(disc, 1), {}, None)


def test_a_full_disk_leaves_the_frames_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.json"
    whole = MasksFile._write

    def write_half(file: MasksFile, data: bytes) -> None:
        if b'"full"' in data:
            whole(file, data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        whole(file, data)

    monkeypatch.setattr(MasksFile, "_write", write_half)
    with MasksFile(path, {"width": 4}) as file:
        file.write({"frame_index": 0})
        with pytest.raises(OSError, match="No space left"):
            file.write({"frame_index": "full" * 99, "full": 1})
    assert json.loads(path.read_text())["frames"] == [{"frame_index": 0}]


def test_masks_go_to_a_pipe_too(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE, text=True)
    with MasksFile(path, {"width": 4}) as file:
        for number in range(3):
            file.write({"frame_index": number})
    output, _ = reader.communicate()
    assert len(json.loads(output)["frames"]) == 3


@pytest.mark.parametrize("size", [(1, 9), (9, 1), (1, 1), (33, 21)])
def test_odd_sizes_are_written(tmp_path: Path, size: tuple[int, int]) -> None:
    with VideoWriter(tmp_path / "2024-05-01T12:30.mp4", frames_per_second=25) as writer:
        writer.write(np.zeros((*size, 3), np.uint8))
    assert len(times_of(tmp_path / "2024-05-01T12:30.mp4")) == 1


def test_times_that_begin_again_go_on(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "o.mp4", frames_per_second=25) as writer:
        for number, time in enumerate([0.0, 0.04, 0.08, 0.0, 0.04]):
            writer.write(disc(number), time)
    np.testing.assert_allclose(times_of(tmp_path / "o.mp4"), [0, 0.04, 0.08, 0.12, 0.16], atol=1e-3)


@pytest.mark.parametrize("name", ["100%.ts", "a:b.ts", "x.ts"])
def test_sources_of_a_stream_are_inputs(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "v.ts", range(3)).rename(tmp_path / name)
    for source in (name, str(tmp_path / name), f"file:{tmp_path / name}", f"file://{tmp_path / name}"):
        result = CliRunner().invoke(main, ["stream", source, "--point", "1,1", "-o", name])
        assert result.exit_code == 2
        assert "would overwrite the input" in result.output


def test_pictures_of_a_pattern_are_inputs(tmp_path: Path) -> None:
    (tmp_path / "f007.png").write_bytes(picture())
    pattern, output = str(tmp_path / "f%03d.png"), str(tmp_path / "f007.png")
    result = CliRunner().invoke(main, ["stream", pattern, "--point", "1,1", "--masks", output])
    assert "would overwrite the input" in result.output


async def test_files_that_were_removed_are_an_error(tmp_path: Path) -> None:
    masks = MasksFile(tmp_path / "m.json", {})
    masks.write({"frame_index": 0})
    (tmp_path / "m.json").unlink()
    with pytest.raises(OSError, match="removed while it was written"), masks:
        pass
    drawing = OverlayThread(VideoWriter(tmp_path / "o.mp4", frames_per_second=25))
    await drawing.submit(partial(disc, 1), {}, None)
    while not (tmp_path / "o.mp4").exists():
        await asyncio.sleep(0.02)
    (tmp_path / "o.mp4").unlink()
    with pytest.raises(OSError, match="removed while it was written"):
        async with drawing:
            pass


async def test_a_disk_that_is_full_for_the_overlay_is_told(tmp_path: Path) -> None:
    """FFmpeg swallows the errors of its last writes."""
    script = """
import asyncio, resource, signal, sys
from pathlib import Path
import numpy as np
from maskmesh.cli.media.overlay import OverlayThread, VideoWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
async def main():
    async with OverlayThread(VideoWriter(Path(sys.argv[1]), frames_per_second=25)) as thread:
        for seed in range(20):
            noise = np.random.default_rng(seed).integers(0, 255, (64, 64, 3), np.uint8)
            await thread.submit(lambda: noise, {}, None)
try:
    asyncio.run(main())
except OSError as error:
    print(error.filename, error.strerror)
"""
    path = tmp_path / "o.mp4"
    run = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True)
    assert run.stdout == f"{path} File too large\n", run.stderr
