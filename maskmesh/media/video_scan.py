"""One pass over a video file: its packets, and as many of its frames as the index needs."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from av.codec.codec import Properties
from av.format import Flags

from maskmesh.errors import ResourceExhausted
from maskmesh.media.containers import (
    FIELD,
    decode_packet,
    decoder_options,
    flush_decoder,
    open_container,
    read_packets,
    video_stream,
)
from maskmesh.media.pictures import PixelLimit

UNKNOWN = -1
"""The position of a packet that the container does not give."""

# Codecs whose packets each show one frame, apart from those that `_is_hidden` finds.
_PAIRED_CODECS = frozenset({"h264", "hevc", "vvc", "av1", "vp8", "vp9"})

# AVI stores no presentation times, so those of reordered frames are wrong.
_UNTIMED_CONTAINERS = frozenset({"avi"})

_DEFAULT_RATE = Fraction(25)

# A file whose packets show no frames is refused as well as one with too many frames.
_MAX_PACKETS_PER_FRAME = 2


@dataclass(slots=True)
class Scan:
    """One pass over a file: its packets, its first frame, and all its frames if they were decoded."""

    container_flags: Flags
    container_names: Sequence[str]
    decodes_all: bool
    positions: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    presentation_times: list[int | None] = field(default_factory=list)
    decoding_times: list[int | None] = field(default_factory=list)
    shown: list[bool] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    """Numbers of the packets at which decoding can begin."""
    decoded: list[int] = field(default_factory=list)
    """The packet of each decoded frame, in the order shown."""
    first: Any = None
    """The first frame that was decoded."""
    time_base: Fraction = Fraction(1)
    """Seconds of one unit of the times of packets."""
    nominal: float = 0.0
    """Duration of a frame in units of the time base."""
    rate: float = 0.0
    pixel_aspect: Fraction = Fraction(1)

    @property
    def are_times_reliable(self) -> bool:
        """Whether the order and the times of the frames follow from the packets.

        Times must be there, differ, and never fall from one decoding or key frame to the next.
        """
        if self.decodes_all:
            return True
        times = [t for t, is_shown in zip(self.presentation_times, self.shown, strict=True) if is_shown]
        if None in times or len(set(times)) < len(times):
            return False
        decoding = [t for t in self.decoding_times if t is not None]
        keys = [self.presentation_times[number] for number in self.keys]
        return _is_ascending(decoding) and _is_ascending([t for t in keys if t is not None])

    def add(self, packet: Any, codec: str) -> None:
        """Add the next packet."""
        if packet.is_keyframe:
            self.keys.append(len(self.sizes))
        position = packet.pos
        self.positions.append(UNKNOWN if position is None else position)
        self.sizes.append(packet.size)
        self.presentation_times.append(packet.pts)
        self.decoding_times.append(packet.dts)
        self.shown.append(not (packet.is_discard or _is_hidden(packet, codec)))

    @property
    def has_presentation_times(self) -> bool:
        """Whether the container stores when frames are shown."""
        return _UNTIMED_CONTAINERS.isdisjoint(self.container_names)


def scan_video(path: Path, max_frames: int, limit: PixelLimit, *, decode_all: bool) -> Scan:
    """Read all packets of a video, and decode its first frame; all frames, if packets do not tell them.

    Raises InvalidVideo, ImageTooLarge, ResourceExhausted.
    """
    with open_container(path) as container:
        stream = video_stream(container)
        context = stream.codec_context
        limit.check(context.width, context.height, field=FIELD)
        codec, names = context.codec.canonical_name, container.format.name.split(",")
        scan = Scan(Flags(container.format.flags), names, decode_all or not _is_paired(context.codec, names))
        rate = stream.average_rate or stream.guessed_rate
        scan.rate = float(rate or 0)
        scan.time_base = stream.time_base or Fraction(1)
        scan.nominal = float(1 / ((rate or _DEFAULT_RATE) * scan.time_base))
        scan.pixel_aspect = stream.sample_aspect_ratio or Fraction(1)
        options = decoder_options(limit.max_pixels)
        if scan.decodes_all:
            # The pixels of this pass are not used, so the decoder may leave out what only they need.
            options |= {"skip_loop_filter": "all", "skip_idct": "all"}
        context.options = options
        for number, packet in enumerate(read_packets(container, stream)):
            scan.add(packet, codec)
            if scan.decodes_all or scan.first is None:
                _take(scan, decode_packet(packet, number), limit)
            num_frames = len(scan.decoded if scan.decodes_all else scan.sizes)
            if num_frames > max_frames or len(scan.sizes) > _MAX_PACKETS_PER_FRAME * max_frames:
                raise ResourceExhausted(f"a session can have at most {max_frames} frames", resource="frames")
        if scan.decodes_all or scan.first is None:
            _take(scan, flush_decoder(stream), limit)
    return scan


def _take(scan: Scan, frames: Sequence[Any], limit: PixelLimit) -> None:
    for frame in frames:
        if scan.first is None:
            limit.check(frame.width, frame.height, field=FIELD)
            scan.first = frame
        scan.decoded.append(frame.pts)


def _is_paired(codec: Any, container_names: Sequence[str]) -> bool:
    """Whether each packet shows one frame, at the packet's time."""
    if codec.properties & Properties.INTRA_ONLY.value:
        return True
    return codec.canonical_name in _PAIRED_CODECS and _UNTIMED_CONTAINERS.isdisjoint(container_names)


def _is_hidden(packet: Any, codec: str) -> bool:
    """Whether a packet holds one frame that is only a reference for others.

    Source: the frame headers of RFC 6386, 9.1 (VP8), and of the VP9 bitstream specification, 6.2.
    """
    if codec == "vp8":
        return not memoryview(packet)[0] & 0x10  # show_frame
    if codec == "vp9":
        data = memoryview(packet)
        is_superframe = data[-1] & 0xE0 == 0xC0
        is_profile_3 = data[0] & 0x30 == 0x30  # has one more bit before the flags
        shows_existing, shows = (0x04, 0x01) if is_profile_3 else (0x08, 0x02)
        return not is_superframe and not data[0] & (shows_existing | shows)
    return False


def _is_ascending(values: Sequence[int]) -> bool:
    return all(earlier < later for earlier, later in itertools.pairwise(values))
