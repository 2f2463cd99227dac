"""Images from what callers have, and what both ends ask of them."""

from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image as PillowImage

from maskmesh.errors import InvalidImage
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
