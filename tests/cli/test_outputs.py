"""Output files of the command: checked before the work, whole at any moment."""

import json
import os
import subprocess
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from PIL import Image

from maskmesh.cli.main import main
from maskmesh.cli.media.outputs import MasksFile, check_outputs, check_suffix
from maskmesh.cli.media.source_frames import folder_frames
from tests.corpus.pictures import picture
from tests.corpus.video_files import write


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
        (["--frame", "-1"], "-1 is not in the range"),
        (["--tls"], "--tls has no effect without --endpoint"),
        (["--tls-ca", __file__], "--tls-ca has no effect without --endpoint"),
        (["--api-key", "secret"], "--api-key has no effect without --endpoint"),
    ],
)
def test_options_are_checked_before_the_work(source: Path, arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["segment", str(source), "--point", "1,1", *arguments])
    assert result.exit_code == 2
    assert message in result.output


def test_options_of_clicks_have_no_effect_on_concepts(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(picture())
    result = CliRunner().invoke(main, ["segment", str(photo), "--concept", "dog", "--multimask"])
    assert (result.exit_code, "--multimask is for --point and --box" in result.output) == (2, True)


def test_frames_of_a_stream_begin_at_zero(source: Path) -> None:
    result = CliRunner().invoke(main, ["stream", str(source), "--frame", "-1", "--point", "1,1"])
    assert (result.exit_code, "-1 is not in the range" in result.output) == (2, True)


def test_a_window_of_motion_has_two_frames_or_more(source: Path, tmp_path: Path) -> None:
    motion = ["--grid", "4x4", "--motion", str(tmp_path / "m.json")]
    result = CliRunner().invoke(main, ["points", str(source), *motion, "--window", "1"])
    assert (result.exit_code, "--window is 2 to 256" in result.output) == (2, True), result.output


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
    # A superscript is a digit, but not of a decimal number.
    names = ["9.jpg", "10.jpg", "frame_2.png", "frame_12.png", "\N{SUPERSCRIPT TWO}.png"]
    for name in reversed(names):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    assert [p.name for p in folder_frames(tmp_path)] == names


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


def test_only_files_are_deleted_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device such as /dev/full stays, whatever could not be written to it."""

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(MasksFile, "_write", fail)
    for is_file in (True, False):
        path = tmp_path / str(is_file)
        monkeypatch.setattr(Path, "is_file", lambda _, answer=is_file: answer)
        with pytest.raises(OSError, match="No space left"), MasksFile(path, {}) as file:
            file.write({"frame_index": 0})
        assert path.exists() is not is_file


def test_masks_go_to_a_pipe_too(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE, text=True)
    with MasksFile(path, {"width": 4}) as file:
        for number in range(3):
            file.write({"frame_index": number})
    output, _ = reader.communicate()
    assert len(json.loads(output)["frames"]) == 3


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


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("stream", ["x.mkv", "--motion-threshold", "9"], "--motion-threshold has no effect without"),
        ("segment", ["frames/0.png", "--max-frames", "3"], "--max-frames requires a video"),
        ("points", ["frames", "--tracks", "frames/0.png"], "would overwrite the input"),
    ],
)
def test_options_without_an_effect_are_refused(
    source: Path, monkeypatch: pytest.MonkeyPatch, command: str, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(source.parent)
    Path("frames").mkdir()
    for number in range(2):
        Path(f"frames/{number}.png").write_bytes(picture())
    result = CliRunner().invoke(main, [command, *arguments, "--point", "1,1"])
    assert result.exit_code == 2
    assert message in result.output
