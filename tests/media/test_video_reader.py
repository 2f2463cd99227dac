import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from maskmesh import ImageTooLarge, InvalidVideo
from maskmesh.media import display, video_reader
from maskmesh.media.pictures import PixelLimit
from maskmesh.media.video_index import index_video
from maskmesh.media.video_reader import ReverseVideoReader, VideoReader
from tests.golden import DATA, needs_data


def write_video(
    path: Path,
    frames: int,
    *,
    codec: str = "libx264",
    width: int = 64,
    height: int = 48,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a video in which the brightness of each frame encodes its index."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(frames):
            pixels = np.full((height, width, 3), 20 + 4 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def brightness(pixels: np.ndarray) -> int:
    return round((float(pixels.mean()) - 20) / 4)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("plain.mp4", {}),
        ("b-frames.mkv", {"bf": "3", "g": "12"}),
        ("one-key-frame.mp4", {"g": "500"}),
        ("stream.ts", {"g": "10"}),
    ],
)
def test_frames_can_be_read_in_any_order(tmp_path: Path, name: str, options: dict[str, str]) -> None:
    path = write_video(tmp_path / name, 40, options=options)
    index = index_video(path)
    assert (index.num_frames, index.width, index.height) == (40, 64, 48)
    reader = VideoReader(path, index)
    for wanted in (0, 1, 2, 30, 31, 5, 5, 39, 0, 17):
        assert brightness(reader.read(wanted).pixels) == wanted
    reader.close()


@pytest.mark.parametrize("wanted", [(0, 1, 2), (3, 0), (0, 0), (30,)])
def test_prepared_reader_reads_the_same_frames(tmp_path: Path, wanted: tuple[int, ...]) -> None:
    path = write_video(tmp_path / "video.mp4", 40)
    reader = VideoReader(path, index_video(path))
    reader.prepare()
    assert [brightness(reader.read(index).pixels) for index in wanted] == list(wanted)
    reader.close()


def test_prepare_failure_is_raised_by_read(tmp_path: Path) -> None:
    path = write_video(tmp_path / "video.mp4", 4)
    reader = VideoReader(path, index_video(path))
    path.unlink()
    reader.prepare()
    with pytest.raises(FileNotFoundError):
        reader.read(0)


def test_reverse_reader_decodes_each_frame_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_reader, "REVERSE_BYTES", 7 * 64 * 48 * 3)
    path = write_video(tmp_path / "one-key-frame.mp4", 40, options={"g": "500"})
    index = index_video(path)
    decoded = 0
    whole = display.frame_pixels

    def count(*arguments: Any) -> np.ndarray:
        nonlocal decoded
        decoded += 1
        return whole(*arguments)

    monkeypatch.setattr(video_reader, "frame_pixels", count)
    reader = ReverseVideoReader(path, index)
    for wanted in (39, 38, 36, *range(35, -1, -1)):
        assert brightness(reader.read(wanted).pixels) == wanted
    reader.close()
    assert decoded == 40


def test_video_without_timestamps(tmp_path: Path) -> None:
    path = write_video(tmp_path / "raw.h264", 20, options={"bf": "0"})
    index = index_video(path)
    assert index.num_frames == 20
    reader = VideoReader(path, index)
    assert [brightness(reader.read(i).pixels) for i in (3, 4, 12, 1)] == [3, 4, 12, 1]


def test_variable_frame_rate(tmp_path: Path) -> None:
    path = tmp_path / "variable.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for index, time in enumerate((0, 10, 400, 410, 420, 2000)):
            pixels = np.full((48, 64, 3), 20 + 4 * index, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    found = index_video(path)
    reader = VideoReader(path, found)
    assert [brightness(reader.read(i).pixels) for i in range(found.num_frames)] == list(range(6))
    # The container says 25.
    assert found.frames_per_second == pytest.approx(5 / 2)


# For each rotation: a, b, c and d of the matrix of the track header (ISO 14496-12, 8.3.2: x' = a x + c y,
# y' = b x + d y), the displayed size, and the displayed row and column of the upper left quarter.
TURNS = {
    "upright": ((1, 0, 0, 1), (64, 48), (0, 0)),
    "a quarter clockwise": ((0, 1, -1, 0), (48, 64), (0, 1)),
    "upside down": ((-1, 0, 0, -1), (64, 48), (1, 1)),
    "a quarter counterclockwise": ((0, -1, 1, 0), (48, 64), (1, 0)),
    "mirrored": ((-1, 0, 0, 1), (64, 48), (0, 1)),
    "upside down in a mirror": ((1, 0, 0, -1), (64, 48), (1, 0)),
    "transposed": ((0, 1, 1, 0), (48, 64), (0, 0)),
    "transposed the other way": ((0, -1, -1, 0), (48, 64), (1, 1)),
}


@pytest.mark.parametrize("turn", TURNS)
def test_video_is_shown_as_its_matrix_says(tmp_path: Path, turn: str) -> None:
    (a, b, c, d), (width, height), (row, column) = TURNS[turn]
    path = tmp_path / "phone.mp4"
    picture = np.full((48, 64, 3), 20, np.uint8)
    picture[:24, :32] = 220
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    file = path.read_bytes()
    matrix = file.index(b"tkhd") + 44
    turned = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(file[:matrix] + turned + file[matrix + 36 :])

    index = index_video(path)
    assert (index.num_frames, index.width, index.height) == (3, width, height)
    reader = VideoReader(path, index)
    shown = reader.read(2).pixels
    reader.close()
    assert shown.shape == (height, width, 3)
    quarters = shown.mean(axis=2).reshape(2, height // 2, 2, width // 2).mean(axis=(1, 3))
    assert np.unravel_index(quarters.argmax(), (2, 2)) == (row, column)


def no_video(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def truncated(path: Path) -> None:
    whole = write_video(path.with_name("whole.mp4"), 30).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def playlist(path: Path) -> None:
    """A playlist that would make the gateway open a local file."""
    write_video(path.with_name("secret.mp4"), 5)
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n")


def concatenation(path: Path) -> None:
    write_video(path.with_name("secret.mp4"), 5)
    path.write_text("ffconcat version 1.0\nfile secret.mp4\n")


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not a video" * 50),
        no_video,
        truncated,
        playlist,
        concatenation,
    ],
)
def test_invalid_videos_are_refused(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / "video"
    write(path)
    with pytest.raises(InvalidVideo) as caught:
        index_video(path)
    assert caught.value.field == "video_chunk"


def test_large_videos_are_refused(tmp_path: Path) -> None:
    limit = PixelLimit(1000, "MASKMESH_GATEWAY_MAX_PIXELS")
    with pytest.raises(ImageTooLarge, match=r"64 x 48 pixels .* 1000 .*GATEWAY_MAX_PIXELS"):
        index_video(write_video(tmp_path / "v.mp4", 3), limit=limit)


@needs_data
@pytest.mark.parametrize("name", ["01_dog", "02_cups", "04_coffee", "bedroom"])
def test_real_clips(name: str) -> None:
    path = DATA / "clips" / f"{name}.mp4"
    index = index_video(path)
    wanted = {0, 7, 8, index.num_frames // 2, index.num_frames - 1}
    expected, count = {}, 0
    with av.open(str(path)) as container:
        for i, frame in enumerate(container.decode(video=0)):
            count += 1
            if i in wanted:
                expected[i] = frame.to_ndarray(format="rgb24")
    assert index.num_frames == count
    reader = VideoReader(path, index)
    for i in sorted(wanted, reverse=True):
        np.testing.assert_array_equal(reader.read(i).pixels, expected[i])
    reader.close()
