"""Images from what callers have, and what both ends ask of them."""

import hashlib
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image as PillowImage

from maskmesh.errors import ImageTooLarge, InvalidImage
from maskmesh.masks import ByteArray
from maskmesh.types import EncodedImage, Image, RawImage

ImageLike: TypeAlias = ByteArray | bytes | Path | str
"""Pixels [height, width, 3] (uint8, RGB), the bytes of a JPEG or PNG file, or a path to one."""


def as_image(image: ImageLike) -> Image:
    """An image from plain values.  Raises ValueError for pixels of another form, OSError for a file."""
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"pixels are [height, width, 3] uint8, got {list(image.shape)} {image.dtype}")
        return RawImage(image)
    if isinstance(image, bytes):
        return EncodedImage(image)
    return EncodedImage(Path(image).read_bytes())


def check_still(opened: PillowImage.Image, *, field: str) -> None:
    """Raises InvalidImage for an animated PNG: which of its pictures is meant nobody knows.

    JPEG files with several pictures are common (a camera's own thumbnails), and the first one is meant.
    """
    if opened.format == "PNG" and getattr(opened, "is_animated", False):
        raise InvalidImage("the image is animated: send its frames one by one", field=field)


def image_digest(image: Image) -> str:
    """The digest of an image's content, ``sha256:`` and hexadecimal digits: of the file, or of size and pixels."""
    digest = hashlib.sha256()
    if isinstance(image, EncodedImage):
        digest.update(image.data)
    else:
        height, width, _ = image.pixels.shape
        digest.update(f"{width} x {height}".encode())
        digest.update(np.ascontiguousarray(image.pixels).data)
    return f"sha256:{digest.hexdigest()}"


def check_pixels(width: int, height: int, *, field: str, max_pixels: int) -> None:
    """Raises ImageTooLarge where an image has more than ``max_pixels`` pixels."""
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"{width} x {height} pixels are more than {max_pixels}", field=field, limit=max_pixels
        )
