"""Images and videos of the command: reading frames, drawing overlays, writing videos."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from maskmesh.masks import BoolArray, ByteArray, RleMask
from maskmesh.orientation import displayed_pixels

_COLOURS = np.array(
    [(255, 87, 51), (51, 153, 255), (76, 209, 55), (255, 195, 0), (199, 0, 255), (0, 210, 211)],
    dtype=np.float32,
)
_OPACITY = 0.45


def read_frames(path: Path) -> Iterator[ByteArray]:
    """The frames of a video in order, as they are displayed: [H, W, 3], uint8, RGB."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield displayed_pixels(frame)


class LiveSource:
    """Frames of a file, a camera or a network stream.

    ``name`` is a path, the path of a video device (``/dev/video0``), or a URL that FFmpeg opens (``rtsp://...``).
    Raises OSError if it cannot be opened.
    """

    def __init__(self, name: str) -> None:
        is_camera = name.startswith("/dev/")
        self.is_live = is_camera or "://" in name
        try:
            self._container = av.open(name, format="v4l2" if is_camera else None)
        except av.FFmpegError as error:
            raise OSError(f"{name} cannot be opened: {error.strerror}") from error
        if not self._container.streams.video:
            self._container.close()
            raise OSError(f"{name} has no video")
        stream = self._container.streams.video[0]
        stream.thread_type = "AUTO"
        self.frames_per_second = float(stream.average_rate or 0)

    def frames(self) -> Iterator[ByteArray]:
        """Frames in order, as they are displayed: [H, W, 3], uint8, RGB.  Blocking."""
        for packet in self._container.demux(video=0):
            try:
                decoded = packet.decode()
            except av.InvalidDataError:
                continue  # a network stream loses packets; later ones can be decoded
            for frame in decoded:
                assert isinstance(frame, av.VideoFrame)
                yield displayed_pixels(frame)

    def close(self) -> None:
        """Close the source."""
        self._container.close()


def overlay(pixels: ByteArray, masks: Mapping[int, RleMask]) -> ByteArray:
    """The image with each object tinted and outlined in the colour of its ``obj_id``."""
    drawn = pixels.astype(np.float32)
    for obj_id, rle in masks.items():
        mask = rle.decode()
        colour = _COLOURS[obj_id % len(_COLOURS)]
        drawn[mask] = drawn[mask] * (1 - _OPACITY) + colour * _OPACITY
        drawn[_outline(mask)] = colour
    return drawn.astype(np.uint8)


def _outline(mask: BoolArray) -> BoolArray:
    """The pixels of a mask that touch its outside, two wide."""
    inner = mask.copy()
    for axis in (0, 1):
        for shift in (-2, 2):
            inner &= np.roll(mask, shift, axis)
    outline: BoolArray = mask & ~inner
    return outline


@contextmanager
def video_writer(path: Path, frames_per_second: float) -> Iterator[Any]:
    """Write an H.264 video; yields a function that takes frames [H, W, 3], uint8, RGB."""
    with av.open(str(path), "w") as container:
        rate = Fraction(frames_per_second or 25.0).limit_denominator(1001)
        stream = container.add_stream("libx264", rate=rate, options={"crf": "20"})
        stream.pix_fmt = "yuv420p"

        def write(pixels: ByteArray) -> None:
            # Chroma is stored for pairs of pixels, so an odd last row or column is cut off.
            height, width = pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2
            if not stream.codec_context.is_open:
                stream.width, stream.height = width, height
            even = np.ascontiguousarray(pixels[:height, :width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))

        yield write
        container.mux(stream.encode())
