"""What a file is, by its first bytes; names of files say nothing."""

from enum import Enum
from pathlib import Path

# Bytes that suffice to tell the kind.
HEAD_BYTES = 4096


class FileKind(Enum):
    """The kind of a file.  The values are names for messages."""

    JPEG = "JPEG"
    PNG = "PNG"
    ANIMATED_PNG = "animated PNG"
    WEBP = "WebP"
    ANIMATED_WEBP = "animated WebP"
    AVIF = "AVIF"
    HEIC = "HEIC"
    GIF = "GIF"
    BMP = "BMP"
    TIFF = "TIFF"
    JPEG_2000 = "JPEG 2000"
    JPEG_XL = "JPEG XL"
    NETPBM = "PPM"
    ICO = "ICO"
    DDS = "DDS"
    PSD = "Photoshop"
    PDF = "PDF"
    SVG = "SVG"
    PLAYLIST = "playlist"
    OTHER = "unknown"
    """Possibly a video."""


_SIGNATURES = (
    (b"\xff\xd8\xff", FileKind.JPEG),
    (b"GIF87a", FileKind.GIF),
    (b"GIF89a", FileKind.GIF),
    (b"II*\0", FileKind.TIFF),
    (b"MM\0*", FileKind.TIFF),
    (b"II+\0", FileKind.TIFF),
    (b"MM\0+", FileKind.TIFF),
    (b"\0\0\0\x0cjP  \r\n\x87\n", FileKind.JPEG_2000),
    (b"\xff\x4f\xff\x51", FileKind.JPEG_2000),
    (b"\0\0\0\x0cJXL \r\n\x87\n", FileKind.JPEG_XL),
    (b"\xff\x0a", FileKind.JPEG_XL),
    (b"8BPS", FileKind.PSD),
    (b"\0\0\1\0\1\0", FileKind.ICO),
    (b"DDS ", FileKind.DDS),
    *((b"P%d" % number + space, FileKind.NETPBM) for number in range(1, 8) for space in (b"\n", b" ")),
    (b"%PDF-", FileKind.PDF),
    (b"#EXTM3U", FileKind.PLAYLIST),
    (b"ffconcat", FileKind.PLAYLIST),
)

# Sizes of the second header of the versions of BMP.
_BMP_HEADER_SIZES = (12, 16, 40, 52, 56, 64, 108, 124)

_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1")

PICTURES = frozenset({FileKind.JPEG, FileKind.PNG, FileKind.WEBP, FileKind.AVIF, FileKind.BMP, FileKind.TIFF})
"""The kinds of pictures that are read."""

_CONVERT = "convert it to JPEG or PNG"

REFUSED = {
    FileKind.ANIMATED_PNG: "send its frames one by one, or as a video",
    FileKind.ANIMATED_WEBP: "convert it to a video",
    FileKind.GIF: "send it as a video",
    FileKind.HEIC: _CONVERT,
    FileKind.JPEG_2000: _CONVERT,
    FileKind.JPEG_XL: _CONVERT,
    FileKind.NETPBM: _CONVERT,
    FileKind.ICO: _CONVERT,
    FileKind.DDS: _CONVERT,
    FileKind.PSD: _CONVERT,
    FileKind.PDF: _CONVERT,
    FileKind.SVG: _CONVERT,
}
"""Kinds that are not read as pictures, and what to do instead."""


def file_kind(head: bytes) -> FileKind:
    """The kind of a file that begins with ``head``, of which :data:`HEAD_BYTES` bytes suffice."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        # The chunk acTL of an animated PNG precedes the pixels.
        is_animated = b"acTL" in head.partition(b"IDAT")[0]
        return FileKind.ANIMATED_PNG if is_animated else FileKind.PNG
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        is_animated = head[12:16] == b"VP8X" and len(head) > 20 and bool(head[20] & 2)
        return FileKind.ANIMATED_WEBP if is_animated else FileKind.WEBP
    if head[4:8] == b"ftyp":
        return _iso_kind(head)
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADER_SIZES:
        return FileKind.BMP
    if head.lstrip().startswith((b"<?xml", b"<svg", b"<!DOCTYPE svg")) and b"<svg" in head:
        return FileKind.SVG
    return next((kind for magic, kind in _SIGNATURES if head.startswith(magic)), FileKind.OTHER)


def _iso_kind(head: bytes) -> FileKind:
    """The kind of a file of the ISO base media family, by its brands (ISO/IEC 23008-12)."""
    major = head[8:12]
    brands = head[8 : min(int.from_bytes(head[:4], "big"), 256)]
    if major == b"avif" or (major == b"mif1" and b"avif" in brands):
        return FileKind.AVIF
    # The sequences "avis", "hevc" and "msf1" have a track, which is a video.
    is_sequence = major in (b"avis", b"hevc", b"hevx", b"msf1")
    return FileKind.HEIC if major in _HEIC_BRANDS and not is_sequence else FileKind.OTHER


def kind_of(file: Path | bytes) -> FileKind:
    """The kind of a file, given by its path or its bytes.  Raises OSError if it cannot be read."""
    if isinstance(file, bytes):
        return file_kind(file[:HEAD_BYTES])
    with file.open("rb") as opened:
        return file_kind(opened.read(HEAD_BYTES))
