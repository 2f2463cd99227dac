from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from gateway.video import VideoReader, index_video
from maskmesh import ImageTooLarge, InvalidVideo
from maskmesh.media import read_frames
from tests.golden import DATA, needs_data

LIMIT = 10_000_000


def write_video(path: Path, frames: int, *, codec: str = "libx264", **options: str) -> Path:
    """Frames whose brightness says which one it is."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(frames):
            pixels = np.full((48, 64, 3), 20 + 4 * index, np.uint8)
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
def test_any_order_gives_the_same_frames(tmp_path: Path, name: str, options: dict[str, str]) -> None:
    path = write_video(tmp_path / name, 40, **options)
    index = index_video(path, max_pixels=LIMIT, max_frames=1000)
    assert (index.num_frames, index.width, index.height) == (40, 64, 48)
    reader = VideoReader(path, index)
    for wanted in (0, 1, 2, 30, 31, 5, 5, 39, 0, 17):
        assert brightness(reader.read(wanted)) == wanted
    reader.close()


def test_a_stream_without_times_is_counted(tmp_path: Path) -> None:
    path = write_video(tmp_path / "raw.h264", 20, bf="0")
    index = index_video(path, max_pixels=LIMIT, max_frames=1000)
    assert index.num_frames == 20
    reader = VideoReader(path, index)
    assert [brightness(reader.read(i)) for i in (3, 4, 12, 1)] == [3, 4, 12, 1]


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
    found = index_video(path, max_pixels=LIMIT, max_frames=1000)
    reader = VideoReader(path, found)
    assert [brightness(reader.read(i)) for i in range(found.num_frames)] == list(range(6))


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
    """Would have the server open a file of its own."""
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
def test_what_is_no_video_is_refused(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / "video"
    write(path)
    with pytest.raises(InvalidVideo) as caught:
        index_video(path, max_pixels=LIMIT, max_frames=1000)
    assert caught.value.field == "video_chunk"


def test_large_videos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageTooLarge):
        index_video(write_video(tmp_path / "v.mp4", 3), max_pixels=1000, max_frames=1000)


@needs_data
@pytest.mark.parametrize("name", ["01_dog", "02_cups", "04_coffee", "bedroom"])
def test_real_clips(name: str) -> None:
    path = DATA / "clips" / f"{name}.mp4"
    index = index_video(path, max_pixels=LIMIT, max_frames=1000)
    wanted = {0, 7, 8, index.num_frames // 2, index.num_frames - 1}
    expected, count = {}, 0
    for i, pixels in enumerate(read_frames(path)):
        count += 1
        if i in wanted:
            expected[i] = pixels
    assert index.num_frames == count
    reader = VideoReader(path, index)
    for i in sorted(wanted, reverse=True):
        np.testing.assert_array_equal(reader.read(i), expected[i])
    reader.close()
