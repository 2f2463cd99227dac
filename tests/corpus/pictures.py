"""Pictures of a bright disc in the forms in which cameras, scanners, editors and microscopes write them."""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

WIDTH, HEIGHT, X, Y, RADIUS = 120, 80, 30, 20, 9

# EXIF orientation: where the disc is displayed, and the displayed size.
PLACES = {
    1: ((X, Y), (WIDTH, HEIGHT)),
    2: ((WIDTH - 1 - X, Y), (WIDTH, HEIGHT)),
    3: ((WIDTH - 1 - X, HEIGHT - 1 - Y), (WIDTH, HEIGHT)),
    4: ((X, HEIGHT - 1 - Y), (WIDTH, HEIGHT)),
    5: ((Y, X), (HEIGHT, WIDTH)),
    6: ((HEIGHT - 1 - Y, X), (HEIGHT, WIDTH)),
    7: ((HEIGHT - 1 - Y, WIDTH - 1 - X), (HEIGHT, WIDTH)),
    8: ((Y, WIDTH - 1 - X), (HEIGHT, WIDTH)),
}


def disc() -> np.ndarray:
    """The picture: [HEIGHT, WIDTH, 3]."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    picture = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    picture[(columns - X) ** 2 + (rows - Y) ** 2 <= RADIUS**2] = (230, 220, 60)
    return picture


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    """The bytes of a file."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def picture(mode: str = "RGB", form: str = "PNG", **options: Any) -> bytes:
    """The picture in a mode of Pillow's and a format."""
    return saved(Image.fromarray(disc()).convert(mode), form, **options)


def turned(orientation: int, form: str) -> bytes:
    """The picture with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {} if form == "TIFF" else {"quality": 95}
    return picture(form=form, exif=exif, **options)


def exif_with(tag: int, kind: int, count: int, value: bytes, orientation: int = 6) -> bytes:
    """EXIF with an orientation and one more tag, whose value lies behind the directory."""
    entries = struct.pack("<HHII", 0x112, 3, 1, orientation) + struct.pack("<HHII", tag, kind, count, 38)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + struct.pack("<I", 0) + value


def odd_exif(tag: int, kind: int, value: bytes) -> bytes:
    """A JPEG whose EXIF cannot be written again by careful programs."""
    return picture(form="JPEG", quality=95, exif=exif_with(tag, kind, 1, value))


def grey_16() -> bytes:
    """16-bit grey, as microscopes write."""
    return saved(Image.fromarray(disc()[..., 0].astype(np.uint16) * 257), "PNG")


def grey_16_tiff() -> bytes:
    return saved(Image.fromarray(disc()[..., 0].astype(np.uint16) * 257), "TIFF")


def with_chunk(name: bytes, data: bytes, *, crc: int | None = None) -> bytes:
    """A PNG file with one more chunk before its pixels."""
    file = picture()
    start = file.index(b"IDAT") - 4
    right = zlib.crc32(name + data) if crc is None else crc
    chunk = struct.pack(">I", len(data)) + name + data + struct.pack(">I", right)
    return file[:start] + chunk + file[start:]


def with_text() -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("note", "x" * (2 << 20), zip=True)
    return picture(pnginfo=text)


def several_pages() -> bytes:
    first, second = Image.fromarray(disc()), Image.new("RGB", (WIDTH, HEIGHT))
    return saved(first, "TIFF", save_all=True, append_images=[second])


@dataclass(frozen=True)
class PictureCase:
    """One odd picture, and where its disc is displayed."""

    name: str
    make: Callable[[], bytes]
    place: tuple[int, int] = (X, Y)
    size: tuple[int, int] = (WIDTH, HEIGHT)

    def __str__(self) -> str:
        return self.name


_RATIONAL, _FLOAT, _ASCII, _LONG = 5, 11, 2, 4
_TURNED = PLACES[6]

PICTURES = (
    *(
        PictureCase(f"{form} in orientation {orientation}", partial(turned, orientation, form), *place)
        for form in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")
        for orientation, place in PLACES.items()
        if form in ("JPEG", "TIFF") or orientation in (1, 6)
    ),
    *(
        PictureCase(f"{mode} in {form}", partial(picture, mode, form))
        for mode, form in (
            ("L", "PNG"),
            ("LA", "PNG"),
            ("P", "PNG"),
            ("RGBA", "PNG"),
            ("L", "JPEG"),
            ("CMYK", "JPEG"),
            ("CMYK", "TIFF"),
            ("RGB", "BMP"),
            ("P", "BMP"),
            ("RGBA", "WEBP"),
            ("RGB", "MPO"),
            ("L", "TIFF"),
            ("YCbCr", "JPEG"),
        )
    ),
    PictureCase("progressive JPEG", lambda: picture(form="JPEG", progressive=True)),
    PictureCase("interlaced PNG", lambda: picture(interlace=1)),
    PictureCase("lossless WebP", lambda: picture(form="WEBP", lossless=True)),
    PictureCase("16-bit grey PNG", grey_16),
    PictureCase("16-bit grey TIFF", grey_16_tiff),
    PictureCase("compressed TIFF", lambda: picture(form="TIFF", compression="tiff_lzw")),
    PictureCase("TIFF of several pages", several_pages),
    PictureCase("PNG with 2 MiB of profile", lambda: picture(icc_profile=bytes(2 << 20))),
    PictureCase("JPEG with 2 MiB of profile", lambda: picture(form="JPEG", icc_profile=bytes(2 << 20))),
    PictureCase("PNG with 2 MiB of text", with_text),
    PictureCase("PNG with a wrong CRC in a comment", lambda: with_chunk(b"tEXt", b"a\0b", crc=1)),
    PictureCase("PNG with a wrong CRC in a profile", lambda: with_chunk(b"iCCP", b"a\0\0b", crc=1)),
    PictureCase("PNG with a wrong CRC in its EXIF", lambda: with_chunk(b"eXIf", b"MM\0*", crc=1)),
    PictureCase("PNG with broken EXIF", lambda: with_chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff")),
    PictureCase("PNG with a broken gamma", lambda: with_chunk(b"gAMA", b"")),
    PictureCase(
        "EXIF with a negative denominator",
        lambda: odd_exif(0x11A, 10, struct.pack("<ii", -1, 0)),
        *_TURNED,
    ),
    PictureCase("EXIF with 0/0", lambda: odd_exif(0x11A, _RATIONAL, bytes(8)), *_TURNED),
    PictureCase("EXIF with NaN", lambda: odd_exif(0x9999, _FLOAT, struct.pack("<f", np.nan)), *_TURNED),
    PictureCase("EXIF with text that is no text", lambda: odd_exif(0x10F, _ASCII, b"\xff\xfe\0\0"), *_TURNED),
    PictureCase("EXIF with an unknown type", lambda: odd_exif(0x9999, 99, bytes(8)), *_TURNED),
    PictureCase(
        "EXIF that points into itself", lambda: odd_exif(0x8769, _LONG, struct.pack("<I", 8)), *_TURNED
    ),
    PictureCase("JPEG with bytes after its end", lambda: picture(form="JPEG") + b"\0" * 999),
)
