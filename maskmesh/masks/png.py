"""PNG files without the parts that their pixels do not need."""

import struct
import zlib

# Chunks beside the critical ones that affect the pixels or their orientation.
_KEPT_CHUNKS = (b"tRNS", b"eXIf")
_SIGNATURE_BYTES = 8
_CHUNK_OVERHEAD = 12


def without_metadata(data: bytes) -> bytes:
    """A PNG file without text, profiles and the like.

    They may be large or damaged, which decoders refuse and browsers ignore.
    Source: PNG specification, third edition, 5.3.
    """
    view = memoryview(data)
    kept = [view[:_SIGNATURE_BYTES]]
    start = _SIGNATURE_BYTES
    while start + _CHUNK_OVERHEAD <= len(data):
        length, name = struct.unpack_from(">I4s", data, start)
        end = start + _CHUNK_OVERHEAD + length
        is_critical = not name[0] & 0x20
        if is_critical or (name in _KEPT_CHUNKS and _has_right_crc(view[start:end])):
            kept.append(view[start:end])
        start = end
        if name == b"IEND":
            break
    return b"".join(kept)


def png_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels, from the header.  Raises ValueError if it is no PNG file."""
    if len(data) < _SIGNATURE_BYTES + 16 or not data.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError("the file is no PNG file")
    width, height = struct.unpack_from(">2I", data, _SIGNATURE_BYTES + 8)
    return width, height


def _has_right_crc(chunk: memoryview) -> bool:
    return len(chunk) >= _CHUNK_OVERHEAD and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
