"""Frames of a video file by index, forward and in reverse."""

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from av.video.reformatter import VideoReformatter

from maskmesh.errors import InvalidVideo
from maskmesh.masks import ByteArray
from maskmesh.media.containers import (
    DECODER_THREADS,
    FIELD,
    decode_packet,
    decoder_options,
    flush_decoder,
    open_container,
    read_packets,
    video_stream,
)
from maskmesh.media.display import frame_pixels
from maskmesh.media.video_index import VideoIndex, index_video
from maskmesh.media.video_scan import UNKNOWN

# A seek costs about as much as decoding so many frames.
SEEK_COST_FRAMES = 12

# Limits of the block of frames that is decoded at once in reverse.
REVERSE_BYTES = 64 * 2**20
MAX_REVERSE_FRAMES = 64

# After a seek by position, a demuxer may first give the rest of an earlier packet.
_MAX_PARTIAL_PACKETS = 3
_MATCHED_PACKETS = 3


class VideoFrame(NamedTuple):
    """One frame of a video."""

    pixels: ByteArray
    """[H, W, 3], uint8, RGB, as displayed."""
    is_repeated: bool = False
    """Whether the frame cannot be decoded, so that the pixels are those of the nearest earlier frame that
    can, or of the first one."""


class _Decoded(NamedTuple):
    frame_index: int
    frame: Any


class VideoReader:
    """Decodes frames by index; consecutive frames are cheap, other frames need a seek.

    Not safe for use by several threads at once.
    """

    def __init__(self, path: Path, index: VideoIndex) -> None:
        self._path = path
        self.index = index
        self._frames_by_packet = np.full(len(index.packet_sizes), UNKNOWN, np.int64)
        # The first frame of a packet that shows several.
        self._frames_by_packet[index.frame_packets[::-1]] = np.arange(index.num_frames)[::-1]
        self._converter = VideoReformatter()
        self._container: Any = None
        self._decoded: Iterator[_Decoded] = iter(())
        self._last: _Decoded | None = None
        self._next: _Decoded | None = None
        self._unusable: set[int] = set()  # seek points that do not give their frame

    def read(self, frame_index: int) -> VideoFrame:
        """One frame.  Raises InvalidVideo if none can be decoded, FileNotFoundError if the file is gone."""
        try:
            if self._needs_seek(frame_index):
                self._seek(frame_index)
            frame = self._advance(frame_index)
        except BaseException:
            self.close()
            raise
        index = self.index
        pixels = frame_pixels(frame.frame, index.display, index.width, index.height, self._converter)
        return VideoFrame(pixels, frame.frame_index != frame_index)

    def prepare(self) -> None:
        """Open the file and decode its first frame in advance."""
        # The error occurs again when the frame is read.
        with contextlib.suppress(OSError, InvalidVideo):
            self._restart()
            self._peek()

    def close(self) -> None:
        """Close the file and the decoder; the next read opens them again."""
        if self._container is not None:
            self._container.close()
        self._container = self._last = self._next = None
        self._decoded = iter(())

    def _needs_seek(self, frame_index: int) -> bool:
        """Whether a seek is necessary, or cheaper than decoding on."""
        if self._container is None:
            return True
        position = self._last.frame_index if self._last else 0
        if self._next is not None and position <= frame_index < self._next.frame_index:
            return False  # it cannot be decoded
        if frame_index < position or (self._last is None and self._peek() is None):
            return True
        point = self.index.seek_point(frame_index)
        return point >= 0 and self.index.seek_frames[point] > position + SEEK_COST_FRAMES

    def _seek(self, frame_index: int) -> None:
        """Begin decoding at a seek point at or before the frame, or else at the beginning of the file."""
        point, step = self.index.seek_point(frame_index), 1
        while point > 0:
            if point not in self._unusable:
                if self._begin_at(point):
                    return
                self._unusable.add(point)
            point, step = point - step, step * 2
        self._restart()

    def _restart(self) -> None:
        self.close()
        self._container = open_container(self._path)
        stream = video_stream(self._container)
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = DECODER_THREADS
        stream.codec_context.options = decoder_options(self.index.max_pixels)
        self._decoded = self._decode(read_packets(self._container, stream), 0)

    def _begin_at(self, point: int) -> bool:
        """Seek to a seek point; returns False if its frame does not come out of the decoder then."""
        index = self.index
        if self._container is None:
            self._restart()
        stream = video_stream(self._container)
        self._last = self._next = None
        anchor = int(index.seek_packets[point])
        by_position = index.seeks_by_position
        if by_position:
            # A packet that begins inside another structure has no position of its own.
            while anchor and index.packet_positions[anchor] == UNKNOWN:
                anchor -= 1
        offset = index.packet_positions[anchor] if by_position else index.seek_times[point]
        try:
            self._container.seek(int(offset), stream=stream, unsupported_byte_offset=by_position)
        except OSError:
            return False
        packets = read_packets(self._container, stream)
        head = list(itertools.islice(packets, _MAX_PARTIAL_PACKETS + _MATCHED_PACKETS))
        found = self._identify(head, anchor if by_position else None)
        if found is None:
            return False
        number, skip = found
        if number > index.seek_packets[point]:
            return False
        self._decoded = self._decode(itertools.chain(head[skip:], packets), number)
        # Frames before the seek point may lack their references.
        first = int(index.seek_frames[point])
        while (decoded := self._peek()) is not None and decoded.frame_index < first:
            self._next = None
        return decoded is not None and decoded.frame_index == first

    def _identify(self, packets: list[Any], anchor: int | None) -> tuple[int, int] | None:
        """The number of the first packet that the index knows, and how many packets precede it.

        ``anchor`` is the number that is expected after a seek by position.
        """
        sizes, positions = self.index.packet_sizes, self.index.packet_positions
        got = [packet.size for packet in packets]
        for skip in range(min(_MAX_PARTIAL_PACKETS, len(packets))):
            position = packets[skip].pos
            candidates = [anchor] if anchor is not None else []
            if anchor is None and position is not None:
                candidates = [int(n) for n in np.flatnonzero(positions == position)]
            for number in candidates:
                expected = sizes[number : number + _MATCHED_PACKETS].tolist()
                if got[skip : skip + len(expected)] == expected:
                    return number, skip
        return None

    def _decode(self, packets: Iterator[Any], number: int) -> Iterator[_Decoded]:
        """Decode packets, the first of which is ``number``; frames that are not shown are left out."""
        stream = video_stream(self._container)
        previous = UNKNOWN
        numbered = enumerate(packets, number)
        batches = (decode_packet(packet, packet_number) for packet_number, packet in numbered)
        rest = (flush_decoder(stream) for _ in range(1))
        repeats = 0
        for frame in itertools.chain.from_iterable(itertools.chain(batches, rest)):
            repeats = repeats + 1 if frame.pts == previous else 0
            previous = frame.pts
            if previous < len(self._frames_by_packet) and self._frames_by_packet[previous] != UNKNOWN:
                yield _Decoded(int(self._frames_by_packet[previous]) + repeats, frame)

    def _peek(self) -> _Decoded | None:
        """The next frame out of the decoder, which stays the next one; None at the end."""
        if self._next is None:
            self._next = next(self._decoded, None)
        return self._next

    def _advance(self, frame_index: int) -> _Decoded:
        """Decode up to a frame; returns the frame, or the nearest one if it cannot be decoded."""
        while (decoded := self._peek()) is not None and decoded.frame_index <= frame_index:
            self._last, self._next = decoded, None
            if decoded.frame_index == frame_index:
                break
        nearest = self._last or self._next
        if nearest is None:
            raise InvalidVideo(f"frame {frame_index} cannot be decoded", field=FIELD)
        return nearest


class ReverseVideoReader(VideoReader):
    """Decodes frames from the end to the beginning.

    Videos decode forward only, so a block of frames is decoded at once and kept until it has been read.
    """

    def __init__(self, path: Path, index: VideoIndex) -> None:
        super().__init__(path, index)
        frame_bytes = index.width * index.height * 3
        self._block_length = min(max(REVERSE_BYTES // frame_bytes, 2), MAX_REVERSE_FRAMES)
        self._block: dict[int, VideoFrame] = {}

    def read(self, frame_index: int) -> VideoFrame:
        if frame_index not in self._block:
            first = max(frame_index - self._block_length + 1, 0)
            read = super().read
            self._block = {index: read(index) for index in range(first, frame_index + 1)}
        return self._block.pop(frame_index)


def read_frames(path: Path) -> Iterator[ByteArray]:
    """All frames of a video in order: [H, W, 3], uint8, RGB, as displayed.  Raises InvalidVideo."""
    index = index_video(path)
    reader = VideoReader(path, index)
    try:
        for frame_index in range(index.num_frames):
            yield reader.read(frame_index).pixels
    finally:
        reader.close()
