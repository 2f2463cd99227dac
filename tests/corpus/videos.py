"""Odd videos, each with the frames that players show."""

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.corpus.video_files import (
    H264,
    HEIGHT,
    MPEG4,
    PLAIN,
    WIDTH,
    Encoding,
    join,
    p_vop_without_picture,
    remux,
    with_noise,
    write,
)


@dataclass(frozen=True)
class VideoCase:
    """One odd video."""

    name: str
    """Name of the file, whose suffix chooses the container."""
    make: Callable[[Path], object]
    shown: Sequence[int]
    """The frames that players show, in their order."""
    times: Sequence[float] | None = None
    """Seconds of each frame; None where the file does not say."""
    damaged: range = range(0)
    """Positions of frames that depend on damaged data: they may be missing, or show anything."""
    tolerance: float = 1.5
    """Pixels by which the disc may be off."""

    def __str__(self) -> str:
        return self.name


def _second(path: Path, name: str) -> Path:
    return path.with_name(f"part-{name}")


def _joined(*parts: Iterable[int], how: Encoding = H264) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        files = [
            write(_second(path, f"{number}{path.suffix}"), part, how) for number, part in enumerate(parts)
        ]
        return join(path, *files)

    return make


def _remuxed(suffix: str, how: Encoding, **arguments: Any) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        return remux(write(_second(path, f"source{suffix}"), range(40), how), path, **arguments)

    return make


def _resized(path: Path) -> Path:
    small = Encoding(H264.codec, size=(WIDTH // 2, HEIGHT // 2), options=H264.options)
    first = write(_second(path, f"a{path.suffix}"), range(20))
    return join(path, first, write(_second(path, f"b{path.suffix}"), range(20, 40), small))


def _cover_first(path: Path) -> Path:
    film = write(_second(path, "film.mp4"))
    with av.open(str(film)) as old, av.open(str(path), "w") as out:
        cover: Any = out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 60, 60, "yuvj420p"
        stream = out.add_stream_from_template(old.streams.video[0])
        out.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((60, 60, 3), np.uint8), format="rgb24")))
        out.mux(cover.encode())
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    return path


def _with_other_edit(path: Path) -> Path:
    """An edit list that begins five frames later, as editing programs trim."""
    write(path, how=Encoding(options={"g": "100", "bf": "0"}))
    data = bytearray(path.read_bytes())
    entry = data.index(b"elst") + 4 + 8  # version, flags and the number of entries
    (start,) = struct.unpack_from(">i", data, entry + 4)
    struct.pack_into(">i", data, entry + 4, start + 5 * 512)
    path.write_bytes(data)
    return path


def _cut(share: float, how: Encoding = H264) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        data = write(path, how=how).read_bytes()
        path.write_bytes(data[: round(len(data) * share)])

    return make


def _noisy(how: Encoding) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with_noise(write(path, how=how))

    return make


def _without_pictures(number: int, data: bytes) -> bytes:
    return p_vop_without_picture(number) if number in (10, 11) else data


def _hidden(number: int, data: bytes) -> bytes:
    """VP8 without the flag show_frame.  Source: RFC 6386, 9.1."""
    return bytes([data[0] & ~0x10]) + data[1:] if number == 10 else data


_ALL = range(40)
# Noise changes frames up to the key frame after it.
_NOISY = range(12, 36)
_STEADY = [i / 25 for i in _ALL]
_FAST = Encoding(rate=2000, options={"g": "12"})
_VARIABLE = (0, 10, 400, 410, 420, 2000)
_WITHOUT_10_11 = [i for i in _ALL if i not in (10, 11)]
_VP8 = Encoding("libvpx", options={"g": "12"})
_INTERLACED = Encoding(options={"g": "12", "x264-params": "interlaced=1"})
_REFRESH = Encoding(options={"g": "12", "x264-params": "intra-refresh=1"})
_OPEN_GOP = Encoding(options={"g": "12", "bf": "3", "x264-params": "open-gop=1:scenecut=0"})
_MPEG1 = Encoding("mpeg1video", options={"bf": "2"})
_AV1 = Encoding("libsvtav1", options={"preset": "12"})
_MJPEG = Encoding("mjpeg", pixels="yuvj420p")
_PRORES = Encoding("prores_ks", pixels="yuv422p10le")
_ALTERNATE_VP9 = Encoding("libvpx-vp9", options={"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"})
_FRAGMENTS = Encoding(options={"g": "12"}, container={"movflags": "frag_keyframe+empty_moov"})
_MPEG2 = Encoding("mpeg2video", options={"g": "12", "bf": "2"})
# A quarter of a second before the clock of MPEG-TS, 33 bits at 90 kHz, begins again.
_BEFORE_WRAP = 2**33 - 22_500

VIDEOS = (
    VideoCase("plain.mp4", write, _ALL, _STEADY),
    VideoCase("b-frames.mkv", write, _ALL, _STEADY),
    VideoCase("b-frames.avi", write, _ALL, _STEADY),
    VideoCase("b-frames.flv", write, _ALL, _STEADY),
    VideoCase("b-frames.ts", write, _ALL, _STEADY),
    VideoCase("b-frames.h264", write, _ALL, _STEADY),
    VideoCase(
        "b-frames.hevc",
        lambda p: write(p, how=Encoding("libx265", options={"x265-params": "keyint=12:log-level=none"})),
        _ALL,
        _STEADY,
    ),
    VideoCase(
        "hevc-open-gop.mp4",
        lambda p: write(
            p, how=Encoding("libx265", options={"x265-params": "keyint=12:open-gop=1:log-level=none"})
        ),
        _ALL,
        _STEADY,
    ),
    VideoCase("mpeg4.avi", lambda p: write(p, how=Encoding("mpeg4", options={"bf": "2"})), _ALL, _STEADY),
    VideoCase("mpeg4.m4v", lambda p: write(p, how=MPEG4), _ALL),
    VideoCase("mpeg2.mpg", lambda p: write(p, how=_MPEG2), _ALL, _STEADY),
    VideoCase("mpeg2.ts", lambda p: write(p, how=_MPEG2), _ALL, _STEADY),
    VideoCase("mpeg2.mxf", lambda p: write(p, how=_MPEG2), _ALL, _STEADY),
    VideoCase("mpeg2.vob", lambda p: write(p, how=_MPEG2), _ALL, _STEADY),
    VideoCase("mpeg1.mpg", lambda p: write(p, how=_MPEG1), _ALL, _STEADY),
    VideoCase("wmv2.wmv", lambda p: write(p, how=Encoding("wmv2", options={"g": "12"})), _ALL, _STEADY),
    VideoCase("flv1.flv", lambda p: write(p, how=Encoding("flv", options={"g": "12"})), _ALL, _STEADY),
    VideoCase("vp8.webm", lambda p: write(p, how=_VP8), _ALL, _STEADY),
    VideoCase(
        "vp8-alternate-references.webm",
        lambda p: write(
            p, how=Encoding("libvpx", options={"auto-alt-ref": "1", "lag-in-frames": "16", "g": "30"})
        ),
        _ALL,
        _STEADY,
    ),
    VideoCase(
        "vp9-alternate-references.webm",
        lambda p: write(
            p,
            how=Encoding("libvpx-vp9", options={"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"}),
        ),
        _ALL,
        _STEADY,
    ),
    VideoCase("vp9.ivf", lambda p: write(p, how=Encoding("libvpx-vp9", options={"cpu-used": "8"})), _ALL),
    VideoCase("av1.mp4", lambda p: write(p, how=_AV1), _ALL, _STEADY),
    VideoCase("mjpeg.avi", lambda p: write(p, how=_MJPEG), _ALL, _STEADY),
    VideoCase("mjpeg.mjpeg", lambda p: write(p, how=_MJPEG), _ALL, _STEADY),
    VideoCase("raw.y4m", lambda p: write(p, how=Encoding("wrapped_avframe")), _ALL, _STEADY),
    VideoCase("ffv1.nut", lambda p: write(p, how=Encoding("ffv1")), _ALL, _STEADY),
    VideoCase("ffv1.mkv", lambda p: write(p, how=Encoding("ffv1")), _ALL, _STEADY),
    VideoCase("prores.mov", lambda p: write(p, how=_PRORES), _ALL, _STEADY),
    VideoCase("animated.gif", lambda p: write(p, how=Encoding("gif", pixels="rgb8")), _ALL, _STEADY),
    VideoCase("animated.apng", lambda p: write(p, how=Encoding("apng", pixels="rgb24")), _ALL, _STEADY),
    VideoCase("ten-bits.mkv", lambda p: write(p, how=Encoding(pixels="yuv420p10le")), _ALL, _STEADY),
    VideoCase("interlaced.mkv", lambda p: write(p, how=_INTERLACED), _ALL, _STEADY),
    VideoCase("interlaced.ts", lambda p: write(p, how=_INTERLACED), _ALL, _STEADY),
    VideoCase("intra-refresh.ts", lambda p: write(p, how=_REFRESH), _ALL, _STEADY),
    VideoCase("intra-refresh.mkv", lambda p: write(p, how=_REFRESH), _ALL, _STEADY),
    VideoCase("open-gop.mkv", lambda p: write(p, how=_OPEN_GOP), _ALL, _STEADY),
    VideoCase("open-gop.ts", lambda p: write(p, how=_OPEN_GOP), _ALL, _STEADY),
    VideoCase(
        "fragments.mp4",
        lambda p: write(p, how=_FRAGMENTS),
        _ALL,
        _STEADY,
    ),
    VideoCase(
        "no-index.mkv",
        lambda p: write(p, how=Encoding(options=H264.options, container={"live": "1"})),
        _ALL,
        _STEADY,
    ),
    VideoCase("not-coded.avi", _remuxed(".avi", MPEG4, change=_without_pictures), _WITHOUT_10_11),
    VideoCase("not-coded.mp4", _remuxed(".avi", MPEG4, change=_without_pictures), _WITHOUT_10_11),
    VideoCase("not-coded.mkv", _remuxed(".avi", MPEG4, change=_without_pictures), _WITHOUT_10_11),
    VideoCase(
        "hidden.webm", _remuxed(".webm", _VP8, change=_hidden), [i for i in _ALL if i != 10], tolerance=3
    ),
    VideoCase(
        "hidden.ivf", _remuxed(".webm", _VP8, change=_hidden), [i for i in _ALL if i != 10], tolerance=3
    ),
    VideoCase("joined.ts", _joined(range(40), range(10, 30)), [*_ALL, *range(10, 30)]),
    VideoCase("joined.mpg", _joined(range(40), range(10, 30), how=_MPEG2), [*_ALL, *range(10, 30)]),
    VideoCase("joined.h264", _joined(range(40), range(10, 30)), [*_ALL, *range(10, 30)]),
    VideoCase("joined.mjpeg", _joined(_ALL, range(9), how=_MJPEG), [*_ALL, *range(9)]),
    VideoCase(
        "joined-later-first.ts",
        lambda p: join(
            p,
            remux(write(_second(p, "a.ts"), range(20, 40)), _second(p, "late.ts"), offset=180_000),
            write(_second(p, "b.ts"), range(20)),
        ),
        [*range(20, 40), *range(20)],
    ),
    VideoCase("wrapped-clock.ts", _remuxed(".ts", H264, offset=_BEFORE_WRAP), _ALL),
    VideoCase("late-start.mkv", _remuxed(".mkv", H264, offset=1_000_000), _ALL, _STEADY),
    VideoCase("equal-times.mkv", lambda p: write(p, how=_FAST), _ALL),
    VideoCase("fast.mp4", lambda p: write(p, how=_FAST), _ALL, [i / 2000 for i in _ALL]),
    VideoCase(
        "variable-rate.mkv",
        lambda p: write(p, range(6), Encoding(times=_VARIABLE)),
        range(6),
        [t / 1000 for t in _VARIABLE],
    ),
    VideoCase(
        "slow.mkv",
        lambda p: write(p, range(6), Encoding(times=[20_000 * i for i in range(6)])),
        range(6),
        [20.0 * i for i in range(6)],
    ),
    VideoCase("one-frame.mp4", lambda p: write(p, range(1)), range(1), [0.0]),
    VideoCase("two-frames.mkv", lambda p: write(p, range(2)), range(2), [0.0, 0.04]),
    VideoCase("other-size.ts", _resized, _ALL),
    VideoCase("other-size.h264", _resized, _ALL),
    VideoCase("cover-first.mkv", _cover_first, _ALL, _STEADY),
    VideoCase("edit-list.mp4", _with_other_edit, range(5, 40), _STEADY[:35]),
    VideoCase("starts-in-open-gop.mkv", _remuxed(".mkv", _OPEN_GOP, first=12), range(24, 40)),
    VideoCase("starts-without-key.ts", _remuxed(".ts", PLAIN, first=5), range(12, 40)),
    VideoCase("starts-without-key.mkv", _remuxed(".mkv", PLAIN, first=5), range(12, 40)),
    VideoCase("cut.ts", _cut(0.7, PLAIN), range(27)),
    VideoCase("cut.mkv", _cut(0.7, PLAIN), range(24)),
    VideoCase("cut.avi", _cut(0.9, MPEG4), range(37), damaged=range(36, 37)),
    VideoCase("cut.flv", _cut(0.7, PLAIN), range(25), damaged=range(24, 25)),
    VideoCase("noise.mp4", _noisy(PLAIN), _ALL, damaged=_NOISY),
    VideoCase("noise-in-b-frames.mp4", _noisy(H264), _ALL, damaged=_NOISY),
    VideoCase("noise.mkv", _noisy(PLAIN), _ALL, damaged=_NOISY),
    VideoCase("noise.ts", _noisy(PLAIN), _ALL, damaged=_NOISY),
    VideoCase("noise.avi", _noisy(MPEG4), _ALL, damaged=_NOISY),
    VideoCase("noise.mpg", _noisy(_MPEG2), _ALL, damaged=_NOISY),
    VideoCase("noise.h264", _noisy(PLAIN), _ALL, damaged=_NOISY),
)
