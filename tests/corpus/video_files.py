"""Writes videos of a bright disc that moves two pixels a frame: its place tells which frame was decoded."""

import random
import struct
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

WIDTH, HEIGHT, RADIUS, ROW = 128, 72, 8, 36

NVOP_START = b"\0\0\1\xb6"


def disc(frame: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """The picture of a frame: [height, width, 3]; the disc is at :func:`column` of it."""
    scale = width / WIDTH
    rows, columns = np.mgrid[:height, :width]
    picture = np.full((height, width, 3), 40, np.uint8)
    inside = (columns - column(frame) * scale) ** 2 + (rows - ROW * scale) ** 2 <= (RADIUS * scale) ** 2
    picture[inside] = (230, 220, 60)
    return picture


def column(frame: int) -> int:
    """The column of the disc's centre."""
    return 12 + 2 * frame


def seen_column(pixels: np.ndarray) -> float:
    """The column of the disc in a decoded picture."""
    return float(np.nonzero(pixels[..., 0] > 135)[1].mean())


@dataclass(frozen=True)
class Encoding:
    """How a video is encoded."""

    codec: str = "libx264"
    rate: int = 25
    size: tuple[int, int] = (WIDTH, HEIGHT)
    pixels: str = "yuv420p"
    options: dict[str, str] = field(default_factory=dict)
    container: dict[str, str] = field(default_factory=dict)
    times: Sequence[int] | None = None
    """Milliseconds of each frame; by default they follow from the rate."""
    format: str | None = None


H264 = Encoding(options={"g": "12"})
PLAIN = Encoding(options={"g": "12", "bf": "0"})
MPEG4 = Encoding("mpeg4", options={"g": "12", "bf": "0"})


def write(path: Path, frames: Iterable[int] = range(40), how: Encoding = H264) -> Path:
    """Write the frames with these numbers.

    On a thread of its own, because SVT-AV1 gives the calling thread real-time priority, before all services.
    """
    with ThreadPoolExecutor(1) as pool:
        pool.submit(_write, path, frames, how).result()
    return path


def _write(path: Path, frames: Iterable[int], how: Encoding) -> None:
    with av.open(str(path), "w", format=how.format, container_options=how.container) as out:
        stream: Any = out.add_stream(how.codec, rate=how.rate, options=how.options)
        (stream.width, stream.height), stream.pix_fmt = how.size, how.pixels
        if how.times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for position, number in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(disc(number, *how.size), format="rgb24")
            if how.times is not None:
                frame.pts, frame.time_base = how.times[position], Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


def remux(
    source: Path,
    path: Path,
    change: Callable[[int, bytes], bytes] = lambda number, data: data,
    *,
    first: int = 0,
    offset: int = 0,
    bitstream_filter: str = "",
) -> Path:
    """Copy packets from number ``first`` on into another container; ``offset`` is added to their times."""
    with av.open(str(source)) as old, av.open(str(path), "w") as out:
        template = old.streams.video[0]
        stream = out.add_stream_from_template(template)
        modify = av.BitStreamFilterContext(bitstream_filter, template, stream) if bitstream_filter else None
        packets = [packet for packet in old.demux(template) if packet.size]
        for number, packet in list(enumerate(packets))[first:]:
            made = av.Packet(change(number, bytes(packet)))
            made.pts, made.dts, made.time_base = packet.pts, packet.dts, packet.time_base
            made.pts = None if made.pts is None else made.pts + offset
            made.dts = None if made.dts is None else made.dts + offset
            made.is_keyframe, made.stream = packet.is_keyframe, stream
            for changed in modify.filter(made) if modify else [made]:
                changed.stream = stream
                out.mux(changed)
    return path


def join(path: Path, *parts: Path) -> Path:
    """Join files byte by byte, as recorders and `cat` do."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def with_noise(path: Path, packet: int = 14) -> Path:
    """Overwrite a part of a packet's data with noise, as a bad disk does."""
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        position = next(p.pos for p in packets[packet:] if p.pos is not None)
    data = bytearray(path.read_bytes())
    start = position + 16
    data[start : start + 20] = random.Random(1).randbytes(20)
    path.write_bytes(data)
    return path


def with_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Set the display matrix of an MP4 file.  Source: ISO/IEC 14496-12, 8.3.2."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 44
    struct.pack_into(">9i", data, start, a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def p_vop_without_picture(number: int) -> bytes:
    """An MPEG-4 Part 2 P-VOP that is not coded, at a time of the second.  Source: ISO/IEC 14496-2, 6.2.5."""
    return NVOP_START + int(f"0101{number % 25:05b}1001111", 2).to_bytes(2, "big")
