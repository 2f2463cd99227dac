"""The index of a video's frames: what a decoder shows, in the order shown, with their own times.

Packets are only the way to find the frames: some packets show nothing, some have no time, and joined files
repeat times.  Where packets are known to correspond to frames, the index is made from packets alone;
otherwise every frame is decoded once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import numpy as np
from av.format import Flags
from numpy.typing import NDArray

from maskmesh.errors import InvalidVideo
from maskmesh.media.containers import FIELD, check_is_video
from maskmesh.media.display import Display
from maskmesh.media.pictures import NO_LIMIT, PixelLimit
from maskmesh.media.video_scan import Scan, scan_video

IntArray: TypeAlias = NDArray[np.int64]
TimeArray: TypeAlias = NDArray[np.float64]

# Flags of containers: their times may jump, and they cannot be sought by position.
_UNSTEADY_TIMES = Flags.ts_discont
_NO_BYTE_SEEK = Flags.no_byte_seek

_UPRIGHT = Display()

# By how much the rate of a container may differ from that of its frames.
RATE_TOLERANCE = 0.05


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class VideoIndex:
    """The frames of one video in the order shown, and where to begin decoding for each of them."""

    width: int
    """Width in pixels of the first frame after rotation, to which the others are scaled."""
    height: int
    frames_per_second: float
    pixel_aspect: Fraction = Fraction(1)
    """Width of a pixel after rotation, divided by its height."""
    display: Display = _UPRIGHT
    """The orientation of the first frame, used for all."""
    times: TimeArray
    """Time of each frame in seconds since the first one; never falling."""
    frame_packets: IntArray
    """Number of the packet of each frame, in file order."""
    seek_frames: IntArray
    """Frames at which decoding can begin: the later frames depend on no earlier packet; ascending."""
    seek_packets: IntArray
    """Number of the packet of each seek frame."""
    seek_times: IntArray
    """Time of each seek packet in the container, in units of the stream's time base."""
    packet_positions: IntArray
    """Position of each packet in the file, in bytes; UNKNOWN where the container does not give it."""
    packet_sizes: IntArray
    """Size of each packet in bytes."""
    max_pixels: int
    """Pixels of the largest frame that is decoded; a larger one counts as damaged."""
    seeks_by_position: bool = False
    """Whether the container is sought by position, because its times lie or are missing."""

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return len(self.frame_packets)

    def seek_point(self, frame_index: int) -> int:
        """The last seek point at or before a frame, as an index into ``seek_frames``; -1 if there is none."""
        return int(np.searchsorted(self.seek_frames, frame_index, side="right")) - 1


def index_video(
    path: Path,
    *,
    max_frames: int = 2**31,
    limit: PixelLimit = NO_LIMIT,
) -> VideoIndex:
    """Index a video file.

    Raises InvalidVideo if the file is no video or none of its frames can be decoded, ImageTooLarge if its
    first frame has more pixels than ``limit``, ResourceExhausted if it has more than ``max_frames`` frames.
    """
    check_is_video(path)
    scan = scan_video(path, max_frames, limit, decode_all=False)
    if not scan.are_times_reliable:
        scan = scan_video(path, max_frames, limit, decode_all=True)
    return _build(scan, limit)


def _build(scan: Scan, limit: PixelLimit) -> VideoIndex:
    """The index.  Raises InvalidVideo if no frame was decoded."""
    if scan.first is None:
        raise InvalidVideo("no frame of the video can be decoded", field=FIELD)
    numbers, times = _decoded_frames(scan) if scan.decodes_all else _packet_frames(scan)
    if not numbers:
        raise InvalidVideo("the video shows no frame", field=FIELD)
    seconds = np.array(times, np.float64) * float(scan.time_base)
    display = Display.of(scan.first)
    width, height = display.size(scan.first.width, scan.first.height)
    aspect = 1 / scan.pixel_aspect if display.is_transposed else scan.pixel_aspect
    seek_frames, seek_packets = _seek_points(scan, numbers, times)
    seek_times = [_seek_time(scan, number) for number in seek_packets]
    return VideoIndex(
        width=width,
        height=height,
        frames_per_second=_rate(scan, seconds),
        pixel_aspect=aspect,
        display=display,
        times=seconds - seconds[0],
        frame_packets=np.array(numbers, np.int64),
        seek_frames=np.array(seek_frames, np.int64),
        seek_packets=np.array(seek_packets, np.int64),
        seek_times=np.array([t or 0 for t in seek_times], np.int64),
        packet_positions=np.array(scan.positions, np.int64),
        packet_sizes=np.array(scan.sizes, np.int64),
        max_pixels=limit.max_pixels,
        seeks_by_position=not scan.container_flags & _NO_BYTE_SEEK
        and (bool(scan.container_flags & _UNSTEADY_TIMES) or None in seek_times),
    )


def _packet_frames(scan: Scan) -> tuple[list[int], list[float]]:
    """Packet and time of each frame, from the packets.

    Frames before the first one that can be decoded are not shown.
    """
    frames = sorted(
        (time, number)
        for number, (time, is_shown) in enumerate(zip(scan.presentation_times, scan.shown, strict=True))
        if is_shown and time is not None
    )
    first = scan.presentation_times[scan.first.pts]
    frames = [(time, number) for time, number in frames if first is None or time >= first]
    return [number for _, number in frames], [float(time) for time, _ in frames]


def _decoded_frames(scan: Scan) -> tuple[list[int], list[float]]:
    """Packet and time of each frame, from the decoded frames."""
    if not scan.has_presentation_times:
        # Frames are as far apart as their packets, in whatever order the decoder shows them.
        times = [scan.decoding_times[number] for number in sorted(scan.decoded)]
    else:
        times = [scan.presentation_times[number] for number in scan.decoded]
    return scan.decoded, _ascending(times, scan.nominal)


def _seek_points(scan: Scan, numbers: Sequence[int], times: Sequence[float]) -> tuple[list[int], list[int]]:
    """Frame and packet of each key packet; the order of the frames must be that of the packets."""
    by_number = {number: frame for frame, number in enumerate(numbers)}
    frames: list[int] = []
    packets: list[int] = []
    for number in scan.keys:
        frame = by_number.get(number)
        if frame is None and not scan.decodes_all:
            # A key packet may be hidden, like those before the start of an edit list.
            frame = int(np.searchsorted(times, scan.presentation_times[number] or 0))
        if frame is not None and (not frames or frame > frames[-1]):
            frames.append(frame)
            packets.append(number)
    return frames, packets


def _seek_time(scan: Scan, number: int) -> int | None:
    time = scan.presentation_times[number]
    return scan.decoding_times[number] if time is None else time


def _ascending(times: Sequence[int | None], nominal: float) -> list[float]:
    """Times that never fall: a part of a joined file follows the part before it, a missing time the time
    before it.
    """
    ascending: list[float] = []
    shift = 0.0
    for time in times:
        following = ascending[-1] + nominal if ascending else 0.0
        value = following if time is None else time + shift
        if ascending and value < ascending[-1]:
            shift += following - value
            value = following
        ascending.append(value)
    return ascending


def _rate(scan: Scan, seconds: TimeArray) -> float:
    """The mean rate: that of the container if the times of the frames agree with it, which is exact.

    Containers without a rate, as browsers write them, get a guess by FFmpeg that may be far off.
    """
    duration = float(seconds[-1] - seconds[0])
    mean = (len(seconds) - 1) / duration if duration > 0 else scan.rate
    return scan.rate if abs(scan.rate - mean) <= RATE_TOLERANCE * mean else mean
