"""Images from the values of callers, checks that need no decoding, and reading of image files."""

from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image as PillowImage

from maskmesh.errors import ImageTooLarge, InvalidImage
from maskmesh.masks import ByteArray
from maskmesh.orientation import displayed_image
from maskmesh.types import EncodedImage, Image, RawImage

ImageLike: TypeAlias = ByteArray | bytes | Path | str
"""Pixels [height, width, 3] (uint8, RGB), the bytes of a JPEG or PNG file, or a path to one."""


IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})


def as_image(image: ImageLike) -> Image:
    """Convert a caller's value to an image.

    Raises ValueError if pixels have another shape or type, OSError if a file cannot be read.
    """
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"pixels are [height, width, 3] uint8, got {list(image.shape)} {image.dtype}")
        return RawImage(image)
    if isinstance(image, bytes):
        return EncodedImage(image)
    return EncodedImage(Path(image).read_bytes())


def check_still(opened: PillowImage.Image, *, field: str) -> None:
    """Raises InvalidImage if the file is an animated PNG, because none of its images is the main one.

    JPEG files with several images are accepted: the first is the main one, others are often thumbnails.
    """
    if opened.format == "PNG" and getattr(opened, "is_animated", False):
        raise InvalidImage("the image is animated: send its frames one by one", field=field)


def check_pixels(width: int, height: int, *, field: str, max_pixels: int) -> None:
    """Raises ImageTooLarge if an image has more than ``max_pixels`` pixels."""
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"{width} x {height} pixels are more than {max_pixels}", field=field, limit=max_pixels
        )


def is_image(path: Path) -> bool:
    """Whether a file is an image, by its suffix."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def read_image(path: Path) -> ByteArray:
    """An image as it is displayed: [H, W, 3], uint8, RGB."""
    with PillowImage.open(path) as opened:
        return np.asarray(displayed_image(opened).convert("RGB"))
