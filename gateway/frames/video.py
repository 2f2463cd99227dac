"""Video files: an index of their frames, and pixels by frame index."""

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
from av.video.stream import VideoStream

from maskmesh.errors import InvalidVideo, ResourceExhausted
from maskmesh.images import check_pixels
from maskmesh.masks import ByteArray
from maskmesh.orientation import displayed_frame_size, displayed_pixels

FIELD = "video_chunk"

# Containers only: a playlist would let the client choose files and addresses that FFmpeg opens.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,ogg,asf,h264,hevc,ivf,mxf,gif"
)
_OPTIONS = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}

# Maximum number of frames that are decoded to reach a later one; otherwise a seek to a key frame is
# cheaper.
MAX_FRAMES_AHEAD = 12

# Limits of the block of frames that is decoded at once in reverse.
REVERSE_BYTES = 64 * 2**20
MAX_REVERSE_FRAMES = 64


@dataclass(frozen=True, slots=True)
class VideoIndex:
    """The frames of one video in presentation order."""

    num_frames: int
    width: int  # after rotation
    height: int
    frames_per_second: float
    times: tuple[int, ...]
    """Presentation time of each frame in units of the stream's time base; empty if the file has none."""


def index_video(path: Path, *, max_pixels: int, max_frames: int) -> VideoIndex:
    """Index a video from its packets; frames are decoded only if packets have no times.

    Raises InvalidVideo if the file is empty or cannot be read, ImageTooLarge if its frames are too large,
    ResourceExhausted if it has too many frames.
    """
    try:
        with _open(path) as container:
            stream = _video_stream(container)
            rate = float(stream.average_rate or 0)
            times, complete = [], True
            for packet in container.demux(stream):
                if not packet.size or packet.is_discard:
                    continue
                complete = complete and packet.pts is not None
                if packet.pts is not None:
                    times.append(packet.pts)
                _check_count(len(times), max_frames)
        with _open(path) as container:
            check_pixels(
                _video_stream(container).width,
                _video_stream(container).height,
                field=FIELD,
                max_pixels=max_pixels,
            )
            first = next(_decode(container), None)
            if first is None:
                raise InvalidVideo("the video has no frames", field=FIELD)
            width, height = displayed_frame_size(first)
            if complete:
                # Frames before the first one that can be decoded are not presented.
                presented_times = sorted({t for t in times if first.pts is None or t >= first.pts})
                return VideoIndex(len(presented_times), width, height, rate, tuple(presented_times))
            count = 1
            for _ in _decode(container):
                count += 1
                _check_count(count, max_frames)
            return VideoIndex(count, width, height, rate, ())
    except av.FFmpegError as error:
        raise InvalidVideo(f"the video cannot be read: {error.strerror}", field=FIELD) from error


class VideoReader:
    """Decodes frames by index; consecutive frames are cheap, other frames need a seek.

    Not safe for use by several threads at once.
    """

    def __init__(self, path: Path, index: VideoIndex) -> None:
        self._path = path
        self._index = index
        self._container: Any = None
        self._frames: Iterator[Any] = iter(())
        self._next = 0

    def read(self, frame_index: int) -> ByteArray:
        """One frame: [H, W, 3], uint8, RGB, after rotation.  Raises InvalidVideo if it cannot be decoded."""
        try:
            ahead = frame_index - self._next
            if self._container is None or not 0 <= ahead <= MAX_FRAMES_AHEAD:
                self._seek(frame_index)
            frame = self._advance(frame_index)
            if frame is None:
                # Some containers do not find the preceding key frame: decode from the beginning.
                self._restart()
                frame = self._advance(frame_index)
        except FileNotFoundError:
            raise  # the session has ended
        except av.FFmpegError as error:
            self.close()
            raise InvalidVideo(
                f"frame {frame_index} cannot be decoded: {error.strerror}", field=FIELD
            ) from error
        if frame is None:
            self.close()
            raise InvalidVideo(f"frame {frame_index} cannot be decoded", field=FIELD)
        self._next = frame_index + 1
        if displayed_frame_size(frame) != (self._index.width, self._index.height):
            raise InvalidVideo(f"frame {frame_index} has another size", field=FIELD)
        return displayed_pixels(frame)

    def prepare(self) -> None:
        """Open the file and decode its first frame in advance."""
        # The error occurs again when the frame is read.
        with contextlib.suppress(OSError, av.FFmpegError):
            self._restart()
            if (first := next(self._frames, None)) is not None:
                self._frames = itertools.chain([first], self._frames)

    def close(self) -> None:
        """Close the file."""
        if self._container is not None:
            self._container.close()
        self._container, self._frames = None, iter(())

    def _restart(self) -> None:
        self.close()
        self._container = _open(self._path)
        self._frames = _decode(self._container)
        self._next = 0

    def _seek(self, frame_index: int) -> None:
        """Seek to the key frame at or before a frame."""
        times = self._index.times
        if self._container is None or not times or frame_index == 0:
            self._restart()
        if times and frame_index > 0:
            stream = _video_stream(self._container)
            self._container.seek(times[frame_index], stream=stream, backward=True)
            self._frames = _decode(self._container)

    def _advance(self, frame_index: int) -> Any:
        """Decode up to a frame; returns None if the decoder does not produce it."""
        if not self._index.times:
            for _ in range(frame_index - self._next):
                next(self._frames, None)
            return next(self._frames, None)
        frame_time = self._index.times[frame_index]
        frame = next((f for f in self._frames if f.pts is None or f.pts >= frame_time), None)
        return frame if frame is not None and frame.pts == frame_time else None


class ReverseVideoReader(VideoReader):
    """Decodes frames from the end to the beginning.

    Videos decode forward only, so a block of frames is decoded at once and kept until it has been read.
    """

    def __init__(self, path: Path, index: VideoIndex) -> None:
        super().__init__(path, index)
        frame_bytes = index.width * index.height * 3
        self._block_length = min(max(REVERSE_BYTES // frame_bytes, 2), MAX_REVERSE_FRAMES)
        self._block: dict[int, ByteArray] = {}

    def read(self, frame_index: int) -> ByteArray:
        if frame_index not in self._block:
            first = max(frame_index - self._block_length + 1, 0)
            self._block = {}
            for index in range(first, frame_index + 1):
                try:
                    self._block[index] = super().read(index)
                except InvalidVideo:
                    if index == frame_index:
                        raise  # other frames of the block may never be read
        return self._block.pop(frame_index)


def _open(path: Path) -> Any:
    return av.open(str(path), options=dict(_OPTIONS), metadata_errors="replace")


def _video_stream(container: Any) -> VideoStream:
    if not container.streams.video:
        raise InvalidVideo("the file has no video", field=FIELD)
    stream: VideoStream = container.streams.video[0]
    if stream.codec_context is None:
        raise InvalidVideo("the codec of the video is not supported", field=FIELD)
    return stream


def _check_count(count: int, max_frames: int) -> None:
    if count > max_frames:
        raise ResourceExhausted(f"a session can have at most {max_frames} frames", resource="frames")


def _decode(container: Any) -> Iterator[Any]:
    stream = _video_stream(container)
    if not stream.codec_context.is_open:
        stream.thread_type = "AUTO"
    yield from container.decode(stream)
