"""Video containers: opening them without following references, choosing the stream, reading packets."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition
from av.video.stream import VideoStream

from maskmesh.errors import InvalidVideo
from maskmesh.media.file_kind import REFUSED, FileKind, kind_of

FIELD = "video_chunk"

# Containers that hold their own packets: a playlist, or a pattern of file names, would let the sender of a
# file choose other files and addresses that FFmpeg opens.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,flv,live_flv,ogg,asf,rm,mxf,gxf,"
    "nut,dv,wtv,ivf,obu,av1,h264,hevc,vvc,h263,vc1,vc1test,dirac,mjpeg,yuv4mpegpipe,gif,apng,swf,roq,smk"
)
_OPTIONS = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}

# Threads of one decoder.  Each holds a picture, and more of them do not help a reader that is a few frames
# ahead of an encoder.
DECODER_THREADS = min(4, os.cpu_count() or 1)

# Streams that players do not show as videos: covers, and tiles of pictures.
_NO_VIDEO = Disposition.attached_pic | Disposition.dependent

# Damaged files: so many errors in succession end the reading.
_MAX_READ_ERRORS = 32


def open_container(path: Path) -> Any:
    """Open a video file.  Raises InvalidVideo if it is no video, FileNotFoundError if it does not exist."""
    try:
        return av.open(os.path.abspath(path), options=dict(_OPTIONS), metadata_errors="replace")
    except FileNotFoundError:
        raise
    except (av.FFmpegError, UnicodeError) as error:
        raise InvalidVideo(_refusal(path, error), field=FIELD) from error


def _refusal(path: Path, error: Exception) -> str:
    kind = kind_of(path)
    if kind is FileKind.PLAYLIST:
        return "the file is a playlist: send the video that it names"
    if kind is not FileKind.OTHER:
        return f"the file is a picture ({kind.value}), not a video"
    if isinstance(error, av.ArgumentError):
        return "the file is not a video, or its container is not one of those that the documentation lists"
    # Without the path, which is one of the server.
    return f"the video cannot be read: {getattr(error, 'strerror', None) or error}"


def check_is_video(path: Path) -> None:
    """Raises InvalidVideo if a file is a still picture, although FFmpeg would read it as a video."""
    if not path.stat().st_size:
        raise InvalidVideo("the video is empty", field=FIELD)
    kind = kind_of(path)
    if kind in (FileKind.HEIC, FileKind.AVIF, FileKind.WEBP, FileKind.ANIMATED_WEBP, FileKind.TIFF):
        advice = REFUSED.get(kind, "send it as an image")
        raise InvalidVideo(f"the file is a picture ({kind.value}), not a video: {advice}", field=FIELD)


def video_stream(container: Any) -> VideoStream:
    """The stream that players show.  Raises InvalidVideo if there is none, or no decoder for it."""
    streams = [s for s in container.streams.video if not s.disposition & _NO_VIDEO]
    if not streams:
        raise InvalidVideo("the file has no video", field=FIELD)
    try:
        best = container.streams.best("video")
    except IndexError:  # a damaged file may show more streams after it was opened
        best = None
    stream: VideoStream = best if best in streams else streams[0]
    if stream.codec_context is None:
        raise InvalidVideo("the codec of the video is not supported", field=FIELD)
    return stream


def decoder_options(max_pixels: int) -> dict[str, str]:
    """Options of a decoder that refuses frames of more pixels, whatever the container says of their size."""
    return {"max_pixels": str(min(max_pixels, 2**31 - 1))}


def read_packets(container: Any, stream: VideoStream) -> Iterator[Any]:
    """The packets of a stream that hold data, in file order; damaged parts of the file are passed over."""
    errors = 0
    while errors < _MAX_READ_ERRORS:
        try:
            for packet in container.demux(stream):
                errors = 0
                # An empty packet repeats the picture before it; a decoder would take it for the end.
                if packet.size:
                    yield packet
            return
        except (av.FFmpegError, IndexError):  # IndexError: a packet of a stream that was not there at first
            errors += 1


def decode_packet(packet: Any, number: int) -> list[Any]:
    """Decode a packet; the time of each decoded frame is the ``number`` of the packet that it came from.

    Times in files may be missing, equal or wrong; decoders carry them from packets to frames unchanged, so
    that a number in their place identifies the frame.  A damaged packet gives no frame.
    """
    packet.pts, packet.dts = number, None
    try:
        frames: list[Any] = packet.decode()
    except av.FFmpegError:
        return []
    return frames


def flush_decoder(stream: VideoStream) -> list[Any]:
    """The frames that the decoder still holds at the end of the file."""
    try:
        frames: list[Any] = stream.decode(None)
    except av.FFmpegError:
        return []
    for frame in frames:
        frame.time_base = stream.time_base  # without a packet, PyAV does not set it
    return frames
