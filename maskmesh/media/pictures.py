"""Pictures: from the bytes of a file to upright RGB, by one rule for every way in.

The EXIF orientation is applied; alpha is dropped; palettes, CMYK and grey become RGB; of 16 bits the upper 8
are kept, so whoever writes 12-bit values must stretch them.  Colour profiles are not applied.
Of a file with several pictures (MPO, TIFF) the first one counts.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from maskmesh.errors import ImageTooLarge, InvalidImage, MaskmeshError
from maskmesh.masks import ByteArray
from maskmesh.masks.png import without_metadata
from maskmesh.media.file_kind import PICTURES, REFUSED, FileKind, kind_of
from maskmesh.types import EncodedImage, Image, RawImage

ImageLike: TypeAlias = ByteArray | PillowImage.Image | bytes | Path | str
"""Pixels [height, width, 3] (uint8, RGB), a Pillow image, the bytes of a picture file, or a path to one."""

_PILLOW_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "TIFF")
_TAKEN = ", ".join(sorted(kind.value for kind in PICTURES))

_BOX = PillowImage.Resampling.BOX
_ORIENTATION = 0x0112
_TRANSPOSITIONS = {
    2: PillowImage.Transpose.FLIP_LEFT_RIGHT,
    3: PillowImage.Transpose.ROTATE_180,
    4: PillowImage.Transpose.FLIP_TOP_BOTTOM,
    5: PillowImage.Transpose.TRANSPOSE,
    6: PillowImage.Transpose.ROTATE_270,
    7: PillowImage.Transpose.TRANSVERSE,
    8: PillowImage.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)


@dataclass(frozen=True, slots=True)
class PixelLimit:
    """The largest number of pixels of a picture or video frame, and the setting that raises it."""

    max_pixels: int
    setting: str = ""

    def check(self, width: int, height: int, *, field: str) -> None:
        """Raises ImageTooLarge if there are more pixels."""
        if width * height > self.max_pixels:
            raise self.exceeded(f"{width} x {height} pixels", field=field)

    def exceeded(self, pixels: str, *, field: str) -> ImageTooLarge:
        """The error for too many pixels."""
        hint = f" (the setting {self.setting} of the server)" if self.setting else ""
        return ImageTooLarge(
            f"{pixels} are more than {self.max_pixels}{hint}", field=field, limit=self.max_pixels
        )


NO_LIMIT = PixelLimit(2**62)


def as_image(image: ImageLike) -> Image:
    """Convert a caller's value to an image.

    Raises ValueError if pixels have another shape or type, OSError if a file cannot be read.
    """
    if isinstance(image, PillowImage.Image):
        return RawImage(_rgb(image, _orientation(image), "image"))
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"pixels are [height, width, 3] uint8, got {list(image.shape)} {image.dtype}")
        return RawImage(image)
    if isinstance(image, bytes):
        return EncodedImage(image)
    return EncodedImage(Path(image).read_bytes())


def natural_order(path: Path) -> list[Any]:
    """A key that sorts files by the numbers in their names: 9.jpg before 10.jpg."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]


def is_picture(path: Path) -> bool:
    """Whether a file is a still picture, also one of a kind that is not taken; a GIF is a video.

    Raises OSError.
    """
    kind = kind_of(path)
    return kind in PICTURES or (kind in REFUSED and kind not in (FileKind.ANIMATED_PNG, FileKind.GIF))


def read_picture(path: Path) -> ByteArray:
    """A picture file as displayed: [H, W, 3], uint8, RGB.  Raises InvalidImage, OSError."""
    return decode_picture(path.read_bytes(), NO_LIMIT, field=path.name)


def decode_picture(data: bytes, limit: PixelLimit, *, field: str) -> ByteArray:
    """Decode a picture file: [H, W, 3], uint8, RGB, as displayed.

    Raises InvalidImage, and ImageTooLarge before decoding.
    """
    with _translated_errors(field, limit), _open(data, limit, field) as opened:
        return _rgb(opened, _orientation(opened), field)


def picture_size(data: bytes, limit: PixelLimit, *, field: str) -> tuple[int, int]:
    """Width and height of a picture file as displayed, from its header.

    Raises InvalidImage or ImageTooLarge.
    """
    with _translated_errors(field, limit), _open(data, limit, field) as opened:
        is_sideways = _orientation(opened) in _SIDEWAYS
        return (opened.height, opened.width) if is_sideways else (opened.width, opened.height)


def grey_thumbnail(image: Image, side: int, *, field: str) -> ByteArray:
    """An image in grey at a small size: [side, side], uint8; it is neither rotated nor kept in proportion.

    Much faster than decoding for JPEG, whose coarse frequencies suffice.  Raises InvalidImage.
    """
    if isinstance(image, RawImage):
        picture = PillowImage.fromarray(image.pixels)
        return np.asarray(picture.reduce(_reduction(picture, side)).convert("L").resize((side, side), _BOX))
    with _translated_errors(field, NO_LIMIT), _open(image.data, NO_LIMIT, field) as opened:
        opened.draft("L", (side, side))
        return np.asarray(_grey(opened, field).resize((side, side), _BOX, reducing_gap=1.0))


def _grey(image: PillowImage.Image, field: str) -> PillowImage.Image:
    if image.mode.startswith(("I", "F")):  # Pillow clips these where _rgb scales them
        return PillowImage.fromarray(_rgb(image, 1, field)[:, :, 0])
    return image.convert("L")


def _reduction(picture: PillowImage.Image, side: int) -> tuple[int, int]:
    return max(1, picture.width // side), max(1, picture.height // side)


def image_size(image: Image, limit: PixelLimit, *, field: str) -> tuple[int, int]:
    """Width and height of an image as displayed.  Raises InvalidImage or ImageTooLarge."""
    if isinstance(image, RawImage):
        return image.pixels.shape[1], image.pixels.shape[0]
    return picture_size(image.data, limit, field=field)


@contextmanager
def _translated_errors(field: str, limit: PixelLimit) -> Iterator[None]:
    """Translate every error of Pillow, which raises many kinds for corrupt files, to InvalidImage."""
    try:
        yield
    except MaskmeshError:
        raise
    except PillowImage.DecompressionBombError as error:
        raise limit.exceeded("the pixels of the image", field=field) from error
    except UnidentifiedImageError as error:
        raise InvalidImage("the image cannot be decoded: its header is damaged", field=field) from error
    except Exception as error:
        raise InvalidImage(f"the image cannot be decoded: {error}", field=field) from error


def _open(data: bytes, limit: PixelLimit, field: str) -> PillowImage.Image:
    kind = kind_of(data)
    if kind in REFUSED:
        raise InvalidImage(f"{kind.value} is not taken as an image: {REFUSED[kind]}", field=field)
    if kind not in PICTURES:
        raise InvalidImage(f"the file is not an image of a kind that is taken ({_TAKEN})", field=field)
    if kind is FileKind.PNG:
        data = without_metadata(data)
    with warnings.catch_warnings():
        # ``limit`` replaces Pillow's own limit, and metadata that are ignored need no warning.
        warnings.simplefilter("ignore")
        opened = PillowImage.open(io.BytesIO(data), formats=_PILLOW_FORMATS)
    limit.check(opened.width, opened.height, field=field)
    return opened


def _orientation(image: PillowImage.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 if it is missing or unreadable, and for TIFF, which Pillow turns."""
    if image.format == "TIFF":
        return 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a picture with broken metadata is a picture
        return 1
    return value if value in _TRANSPOSITIONS else 1


def _rgb(image: PillowImage.Image, orientation: int, field: str) -> ByteArray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image.load()
    if image.mode == "F":
        raise InvalidImage("floating-point pixels are not taken: convert them to 8 or 16 bits", field=field)
    if orientation in _TRANSPOSITIONS:
        image = image.transpose(_TRANSPOSITIONS[orientation])
    if not image.mode.startswith("I"):
        return np.asarray(image.convert("RGB"))
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise InvalidImage("pixels of 32 bits are not taken: convert them to 8 or 16 bits", field=field)
    grey = (values.astype(np.uint32) >> 8).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)
