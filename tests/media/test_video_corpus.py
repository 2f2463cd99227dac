"""Odd videos: their frames are those that players show, in any order of reading."""

import random
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from maskmesh.media import containers, video_reader
from maskmesh.media.video_index import index_video
from maskmesh.media.video_reader import ReverseVideoReader, VideoFrame, VideoReader
from tests.corpus.video_files import (
    HEIGHT,
    PLAIN,
    WIDTH,
    Encoding,
    column,
    remux,
    seen_column,
    with_matrix,
    write,
)
from tests.corpus.videos import VIDEOS, VideoCase
from tests.golden import DATA, needs_data


def read_in_order(path: Path) -> list[VideoFrame]:
    index = index_video(path)
    reader = VideoReader(path, index)
    frames = [reader.read(i) for i in range(index.num_frames)]
    reader.close()
    return frames


@pytest.mark.parametrize("case", VIDEOS, ids=str)
def test_frames_are_those_that_players_show(tmp_path: Path, case: VideoCase) -> None:
    path = tmp_path / case.name
    case.make(path)
    index = index_video(path)
    frames = read_in_order(path)
    columns = [seen_column(f.pixels) for i, f in enumerate(frames) if i not in case.damaged]
    expected = [column(number) for i, number in enumerate(case.shown) if i not in case.damaged]
    missing = len(case.shown) - len(frames)
    assert 0 <= missing <= len(case.damaged)
    after = len(expected) - min(case.damaged.start or len(expected), len(expected))
    before = len(expected) - after
    np.testing.assert_allclose(columns[:before], expected[:before], atol=case.tolerance)
    if after:
        # Frames may be missing in the damaged part, so the rest is compared from the end.
        kept = [seen_column(f.pixels) for f in frames[-after:]]
        np.testing.assert_allclose(kept, expected[-after:], atol=case.tolerance)
    assert not any(f.is_repeated for i, f in enumerate(frames) if i not in case.damaged)
    assert all(f.pixels.shape == (index.height, index.width, 3) for f in frames)
    assert np.all(np.diff(index.times) >= 0)
    if case.times is not None:
        np.testing.assert_allclose(index.times, case.times, atol=2e-3)
    _compare_orders(path, frames, case)


def _compare_orders(path: Path, frames: list[VideoFrame], case: VideoCase) -> None:
    """Random and reverse reading give the same frames; damaged ones may be concealed in another way."""
    index = index_video(path)
    whole = [i for i in range(index.num_frames) if i not in case.damaged]
    chance = random.Random(0)
    reader = VideoReader(path, index)
    for wanted in (chance.choice(whole) for _ in range(20)):
        np.testing.assert_array_equal(reader.read(wanted).pixels, frames[wanted].pixels)
    reader.close()
    backwards = ReverseVideoReader(path, index)
    for wanted in reversed(range(index.num_frames)):
        pixels = backwards.read(wanted).pixels
        if wanted in whole:
            np.testing.assert_array_equal(pixels, frames[wanted].pixels)
    backwards.close()


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts", ".mpg", ".h264", ".avi", ".flv"])
def test_jumps_decode_one_group_of_pictures(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = "mpeg2video" if suffix == ".mpg" else "libx264"
    how = Encoding(codec, options={"g": "20", "bf": "0"})
    path = write(tmp_path / f"long{suffix}", [i % 50 for i in range(300)], how)
    index = index_video(path)
    decoded: list[object] = []
    whole = containers.decode_packet

    def count(packet: object, number: int) -> list[object]:
        frames = whole(packet, number)
        decoded.extend(frames)
        return frames

    monkeypatch.setattr(video_reader, "decode_packet", count)
    reader = VideoReader(path, index)
    reader.read(0)
    decoded.clear()
    assert round(seen_column(reader.read(297).pixels)) == pytest.approx(column(297 % 50), abs=2)
    assert len(decoded) <= 24
    reader.close()
    decoded.clear()
    backwards = ReverseVideoReader(path, index)
    for wanted in range(299, 199, -1):
        backwards.read(wanted)
    backwards.close()
    assert len(decoded) <= 200


def test_damage_is_told(tmp_path: Path) -> None:
    """A packet of noise gives no picture; the frame repeats the one before, and says so."""
    source = write(tmp_path / "source.mkv", how=PLAIN)
    noise = bytes(random.Random(0).randbytes(40))
    path = remux(source, tmp_path / "v.mkv", lambda number, data: noise if number == 11 else data)
    frames = read_in_order(path)
    assert [i for i, frame in enumerate(frames) if frame.is_repeated] == [11]
    np.testing.assert_array_equal(frames[11].pixels, frames[10].pixels)
    assert round(seen_column(frames[12].pixels)) == column(12)


def test_pixel_aspect_is_that_of_displayed_pixels(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(16, 11)
        out.mux(stream.encode(av.VideoFrame(WIDTH, HEIGHT, "yuv420p")))
        out.mux(stream.encode())
    assert float(index_video(path).pixel_aspect) == pytest.approx(16 / 11)
    turned = index_video(with_matrix(path, 0, 1, -1, 0))
    assert (turned.width, turned.height) == (HEIGHT, WIDTH)
    assert float(turned.pixel_aspect) == pytest.approx(11 / 16)


def test_orientation_in_the_stream_holds_for_all_frames(tmp_path: Path) -> None:
    """H.264's display orientation message is on key frames only."""
    source = write(tmp_path / "source.mkv", range(20))
    turn = "h264_metadata=display_orientation=insert:rotate=90"
    path = remux(source, tmp_path / "v.mkv", bitstream_filter=turn)
    index = index_video(path)
    assert (index.width, index.height) == (HEIGHT, WIDTH)
    assert {frame.pixels.shape for frame in read_in_order(path)} == {(WIDTH, HEIGHT, 3)}


# File of the shared data: number of frames, and the columns of the disc on the first and the last of them.
SHARED_FILES = {
    "joined.ts": (80, 40, 196),
    "joined-later-first.ts": (80, 80, 236),
    "2000fps.mkv": (40, 40, 196),
    "nvop.avi": (28, 40, 156),
    "nvop.mp4": (28, 40, 156),
    "vp8-hidden.webm": (29, 40, 156),
    "h264-bframes.avi": (80, 40, None),
    "divx-packed.avi": (31, 40, 160),
    "title-sjis.avi": (40, 40, 196),
    "title-sjis.mkv": (40, 40, 196),
    "damaged.mp4": (80, 40, None),
    "damaged-bframes.mp4": (80, 40, None),
    "size-changes.webm": (40, 40, 196),
    "size-changes.ts": (40, 40, 196),
    "cover-first.mkv": (40, 40, 196),
    "hflip.mp4": (6, 259, 259),
    "vflip.mp4": (6, 60, 60),
    "rot90.mp4": (6, 189, 189),
    "sei-rot90.mkv": (6, 50, 50),
    "vpxenc-altref.webm": (60, None, None),
    "x.y4m": (5, None, None),
    "x.mjpeg": (5, None, None),
    "x.nut": (5, None, None),
}


@needs_data
@pytest.mark.parametrize("name", SHARED_FILES)
def test_files_of_other_programs(name: str) -> None:
    frames = read_in_order(DATA / "faults" / name)
    count, first, last = SHARED_FILES[name]
    assert len(frames) == count
    for frame, expected in ((frames[0], first), (frames[-1], last)):
        if expected is not None:
            assert seen_column(frame.pixels) == pytest.approx(expected, abs=1.5)
