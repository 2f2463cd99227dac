"""Overlays: objects drawn on frames, as a picture or a video."""

import contextlib
import errno
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import av
import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from maskmesh.aio import ended
from maskmesh.cli.tracing import step
from maskmesh.masks import BoolArray, ByteArray, RleMask
from maskmesh.types import Box, ObjectMask

_COLOURS = np.array(
    [(255, 87, 51), (51, 153, 255), (76, 209, 55), (255, 195, 0), (199, 0, 255), (0, 210, 211)],
    dtype=np.float32,
)
_OPACITY = 0.45

VIDEO_CODECS = {
    ".mp4": "libx264",
    ".m4v": "libx264",
    ".mov": "libx264",
    ".mkv": "libx264",
    ".ts": "libx264",
    ".webm": "libvpx-vp9",
}
"""The codec of an overlay, by the suffix of its file."""

_FORMATS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".ts": "mpegts",
    ".webm": "webm",
}

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif")

_CODEC_OPTIONS = {
    # Without B-frames, whose decoding times precede 0, a file that is written in fragments begins at 0.
    "libx264": {"crf": "20", "bf": "0"},
    "libvpx-vp9": {"crf": "30", "b": "0", "deadline": "realtime", "cpu-used": "8"},
}
_CODECS_WITH_ASPECT = ("libx264",)
# A file whose writer is killed can be played up to its last fragment.
_CONTAINER_OPTIONS = {suffix: {"movflags": "hybrid_fragmented"} for suffix in (".mp4", ".m4v", ".mov")}

# Units per second of the times of an overlay.
_CLOCK = 90_000


def overlay(pixels: ByteArray, masks: Mapping[int, RleMask]) -> ByteArray:
    """The image with each object tinted and outlined in the colour of its ``obj_id``."""
    drawn = pixels.astype(np.float32)
    for obj_id, rle in masks.items():
        mask = rle.decode()
        colour = _COLOURS[obj_id % len(_COLOURS)]
        drawn[mask] = drawn[mask] * (1 - _OPACITY) + colour * _OPACITY
        drawn[_outline(mask)] = colour
    return drawn.astype(np.uint8)


class Label(NamedTuple):
    """A box with a text, in the colour of an object."""

    obj_id: int
    box: Box
    text: str


def draw_labels(pixels: ByteArray, labels: Sequence[Label]) -> ByteArray:
    """The image with the box and the text of each label."""
    picture = PillowImage.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=max(12, picture.height // 40))
    for obj_id, box, text in labels:
        colour = tuple(int(channel) for channel in _COLOURS[obj_id % len(_COLOURS)])
        draw.rectangle((box.x0, box.y0, box.x1, box.y1), outline=colour, width=2)
        left, top, right, bottom = draw.textbbox((box.x0, box.y0), text, font=font)
        # Above the box, or below its upper edge where there is no room.
        shift = min(bottom - box.y0 + 2, max(box.y0, 0))
        draw.rectangle((left - 2, top - shift - 2, right + 2, bottom - shift + 2), fill=colour)
        draw.text((box.x0, box.y0 - shift), text, font=font, fill=(255, 255, 255))
    return np.asarray(picture)


def concept_labels(objects: Mapping[int, ObjectMask], titles: Mapping[int, str]) -> list[Label]:
    """Labels with concept and score for the objects that concepts found; ``titles`` are by ``concept_id``."""
    return [
        Label(obj_id, mask.box, f"{titles[mask.concept_id]} {mask.concept_score:.2f}")
        for obj_id, mask in objects.items()
        if mask.concept_id is not None and mask.concept_id in titles and mask.box is not None
    ]


def _outline(mask: BoolArray) -> BoolArray:
    """The pixels of a mask that touch its outside, two wide."""
    inner = mask.copy()
    for axis in (0, 1):
        for shift in (-2, 2):
            inner &= np.roll(mask, shift, axis)
    outline: BoolArray = mask & ~inner
    return outline


def save_picture(path: Path, pixels: ByteArray) -> None:
    """Write a picture in the format of the file's suffix."""
    PillowImage.fromarray(pixels).save(path)


def check_still_there(path: Path, descriptor: int) -> None:
    """Raises OSError if an open file no longer has its name."""
    if not path.exists() or not os.path.samestat(path.stat(), os.fstat(descriptor)):
        raise OSError(errno.ENOENT, "the file was removed while it was written", str(path))


class _CheckedFile:
    """A file whose first error is kept, since FFmpeg swallows those of its last writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("w+b", buffering=0)
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self.error = self.error or OSError(error.errno, error.strerror, str(self._path))
            raise
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        """Close the file.  Raises the first error, and OSError if somebody else has removed the file."""
        with self._file:
            if self.error is not None:
                raise self.error
            check_still_there(self._path, self._file.fileno())


class VideoWriter:
    """Writes a video with the times of its frames.  A context manager; the first frame begins the file.

    ``frames_per_second`` is the nominal rate, and that of frames without a time; ``pixel_aspect``, which may
    be set until the first frame, the width of a pixel divided by its height.  Used by one thread at a time.
    """

    def __init__(self, path: Path, *, frames_per_second: float, pixel_aspect: Fraction = Fraction(1)) -> None:
        self._path = path
        self._rate = Fraction(frames_per_second or 25).limit_denominator(1001) or Fraction(1)
        self.pixel_aspect = pixel_aspect
        self._file: _CheckedFile | None = None
        self._container: Any = None
        self._stream: Any = None
        self._last = -1
        self._seconds = -1 / float(self._rate)  # of the frame before
        self._shift = 0.0

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, pixels: ByteArray, time: float | None = None) -> None:
        """Append a frame [H, W, 3], uint8, RGB, shown at ``time`` in seconds.

        Raises OSError or FFmpegError if the file cannot be written.
        """
        # Chroma is stored for pairs of pixels, so an odd last row or column is cut off.
        if 1 in pixels.shape[:2]:
            pixels = np.pad(pixels, [(0, size == 1) for size in pixels.shape[:2]] + [(0, 0)], "edge")
        height, width = pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2
        if self._container is None:
            self._open(width, height)
        following = self._seconds + 1 / float(self._rate)
        seconds = following if time is None else time + self._shift
        if seconds < self._seconds:
            # A source began its times again: what follows is shown after what was before.
            self._shift += following - seconds
            seconds = following
        self._seconds = seconds
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels[:height, :width]), format="rgb24")
        if (frame.width, frame.height) != (self._stream.width, self._stream.height):
            frame = frame.reformat(self._stream.width, self._stream.height)
        frame.time_base = Fraction(1, _CLOCK)
        frame.pts = self._last = max(self._last + 1, round(self._seconds * _CLOCK))
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what the encoder still holds, and close the file."""
        if self._container is not None:
            container, self._container = self._container, None
            try:
                with contextlib.closing(container):
                    container.mux(self._stream.encode(None))
            except av.FFmpegError:
                if self._file is None or self._file.error is None:
                    raise
            finally:
                if self._file is not None:
                    self._file.close()

    def _open(self, width: int, height: int) -> None:
        suffix = self._path.suffix.lower()
        codec = VIDEO_CODECS[suffix]
        self._file = _CheckedFile(self._path)
        options = _CONTAINER_OPTIONS.get(suffix, {})
        self._container = av.open(self._file, "w", format=_FORMATS[suffix], container_options=options)
        stream = self._container.add_stream(codec, rate=self._rate, options=_CODEC_OPTIONS[codec])
        stream.pix_fmt = "yuv420p"
        aspect = self.pixel_aspect
        if aspect != 1 and codec not in _CODECS_WITH_ASPECT:
            # Such a file has square pixels.
            width, aspect = round(width * aspect / 2) * 2, Fraction(1)
        stream.width, stream.height = width, height
        stream.time_base = stream.codec_context.time_base = Fraction(1, _CLOCK)
        if aspect != 1:
            stream.codec_context.sample_aspect_ratio = aspect
        self._stream = stream


# Frames that may wait for the overlay's thread; more would fill the memory.
_MAX_WAITING = 64


class OverlayThread:
    """Draws on a thread of its own, so that the mesh seldom waits for it.  An asynchronous context manager.

    At the end of the context every frame that was submitted is in the file, also after an error.
    """

    def __init__(self, writer: VideoWriter) -> None:
        self._writer = writer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="overlay")
        self._drawn: deque[Future[None]] = deque()
        self._draw_seconds = 0.0

    async def __aenter__(self) -> "OverlayThread":
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Raises the first error of drawing, unless the body has failed."""
        self._drawn.append(self._thread.submit(self._writer.close))
        self._thread.shutdown(wait=False)
        with step("draw") as span:  # what the caller waits for; most frames were drawn before
            await ended(self._drawn)
            span.set_attribute("maskmesh.stage.draw.ms", self._draw_seconds * 1000)
        if error is None:
            self._check()

    async def submit(
        self,
        pixels: Callable[[], ByteArray],
        masks: Mapping[int, RleMask],
        time: float | None,
        labels: Sequence[Label] = (),
        points: Callable[[ByteArray], ByteArray] | None = None,
    ) -> None:
        """Draw on the frame that ``pixels`` reads, on the thread: masks, labels, and what ``points`` draws.

        Raises the error of an earlier frame.
        """
        if len(self._drawn) >= _MAX_WAITING:
            await ended([self._drawn[0]])
        self._check()

        def draw() -> None:
            start = monotonic()
            drawn = overlay(pixels(), masks)
            drawn = draw_labels(drawn, labels) if labels else drawn
            self._writer.write(drawn if points is None else points(drawn), time)
            self._draw_seconds += monotonic() - start

        self._drawn.append(self._thread.submit(draw))

    def _check(self) -> None:
        """Raises the error of a frame that was drawn."""
        while self._drawn and self._drawn[0].done():
            self._drawn.popleft().result()
