"""Live sources: files, cameras and network streams, read on a thread that nothing waits for."""

import asyncio
import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
from av.video.reformatter import VideoReformatter

from maskmesh.masks import ByteArray
from maskmesh.media.containers import flush_decoder, read_packets, video_stream
from maskmesh.media.display import Display, frame_pixels

# How long a source may be silent before that is reported.
SILENCE_SECONDS = 10.0

_PLACEHOLDER = re.compile(r"%0?\d*d")


class SourceSilent(OSError):
    """A source has sent nothing for so long that the command ends."""


class LiveFrame(NamedTuple):
    """One frame of a source."""

    pixels: ByteArray
    """[H, W, 3], uint8, RGB, as displayed, all of the first frame's size."""
    time: float | None
    """Seconds in the source's own clock; None if it has none."""


class LiveSource:
    """Frames of a file, a camera or a network stream.

    ``name`` is a path, a pattern of pictures (``frames/%05d.jpg``), the path of a video device
    (``/dev/video0``), or a URL that FFmpeg opens (``rtsp://...``).  FFmpeg cannot be interrupted while a
    source is silent, so a thread opens and reads it, which ends with the process.  ``on_silence`` is called
    with the seconds for which nothing has come; after ``max_silence`` of them SourceSilent is raised.
    """

    def __init__(self, name: str, *, max_silence: float, on_silence: Callable[[float], None]) -> None:
        self.name = name
        self.is_live = source_files(name) is None
        self.frames_per_second = 0.0
        self.pixel_aspect = Fraction(1)
        """The width of a pixel of the frames as displayed, divided by its height."""
        self._max_silence = max_silence
        self._on_silence = on_silence
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[LiveFrame | Exception | None] = asyncio.Queue()
        self._slot = threading.Semaphore()  # one frame is read ahead
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._read, name="live-source", daemon=True)
        self._thread.start()

    async def open(self) -> None:
        """Wait until the source is open.  Raises OSError if it cannot be opened."""
        await self._wait_for(self._opened)

    async def read(self) -> LiveFrame | None:
        """The next frame, None at the end.  Raises OSError."""
        item: LiveFrame | Exception | None = await self._wait_for(asyncio.ensure_future(self._queue.get()))
        self._slot.release()
        if isinstance(item, Exception):
            raise item
        return item

    def close(self) -> None:
        """Stop reading; a thread that waits for a silent source is left behind."""
        self._is_closed.set()
        self._slot.release()

    async def _wait_for(self, future: "asyncio.Future[Any]") -> Any:
        silent = 0.0
        while True:
            pause = min(SILENCE_SECONDS, self._max_silence - silent)
            done, _ = await asyncio.wait({future}, timeout=pause)
            if done:
                return future.result()
            silent += pause
            if silent >= self._max_silence:
                future.cancel()
                raise SourceSilent(f"{self.name} has sent nothing for {silent:.0f} s")
            self._on_silence(silent)

    def _read(self) -> None:
        """Runs on the thread."""
        try:
            self._read_source()
            self._put(None)
        except _Closed:
            pass
        except Exception as error:
            # FFmpeg's errors are no OSErrors all, and their text has the path twice.
            reason = getattr(error, "strerror", None) or error
            with contextlib.suppress(_Closed):
                self._on_loop(self._fail, OSError(f"{self.name}: {reason}"))

    def _fail(self, error: Exception) -> None:
        if self._opened.done():
            self._queue.put_nowait(error)
        else:
            self._opened.set_exception(error)

    def _confirm_open(self) -> None:
        if not self._opened.done():
            self._opened.set_result(None)

    def _read_source(self) -> None:
        container: Any = av.open(
            # A name with a colon would be a protocol.
            os.path.abspath(self.name) if source_files(self.name) and "file:" not in self.name else self.name,
            format="v4l2" if _is_camera(self.name) else None,
            metadata_errors="replace",
        )
        with container:
            stream = video_stream(container)
            stream.thread_type = "AUTO"
            self.frames_per_second = float(stream.average_rate or 0)
            self._on_loop(self._confirm_open)
            for frame in self._frames(container, stream):
                self._put(frame)

    def _frames(self, container: Any, stream: Any) -> Iterator[LiveFrame]:
        """Frames as displayed.  A network stream loses packets; later ones can be decoded."""
        display: Display | None = None
        size = (0, 0)
        converter = VideoReformatter()
        for frame in _decode(container, stream):
            if display is None:
                display = Display.of(frame)
                size = display.size(frame.width, frame.height)
                aspect = stream.sample_aspect_ratio or Fraction(1)
                self.pixel_aspect = 1 / aspect if display.is_transposed else aspect
            yield LiveFrame(frame_pixels(frame, display, *size, converter), frame.time)

    def _put(self, item: LiveFrame | None) -> None:
        """Pass an item on, when the one before was taken."""
        self._slot.acquire()
        if self._is_closed.is_set():
            raise _Closed
        self._on_loop(self._queue.put_nowait, item)

    def _on_loop(self, function: Callable[..., object], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the loop is closed
            raise _Closed from None


class _Closed(Exception):
    """The command has ended."""


def _decode(container: Any, stream: Any) -> Iterator[Any]:
    for packet in read_packets(container, stream):
        try:
            yield from packet.decode()
        except av.FFmpegError:
            continue
    yield from flush_decoder(stream)


def source_files(name: str) -> list[Path] | None:
    """The files that a source reads; None for cameras, pipes and URLs."""
    path = Path(name.removeprefix("file://").removeprefix("file:"))
    if path.is_file():
        return [path]
    if "%" in path.name and path.parent.is_dir():
        pattern = re.compile(_PLACEHOLDER.sub(r"\\d+", re.escape(path.name)))
        return [found for found in path.parent.iterdir() if pattern.fullmatch(found.name)]
    return None if _is_camera(name) or path.is_fifo() or "://" in name else []


def _is_camera(name: str) -> bool:
    return name.startswith("/dev/video")
