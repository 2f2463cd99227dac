"""Images and video frames as they are displayed: EXIF orientation, and the rotation of a video's display
matrix.
"""

from typing import Any

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageOps

from maskmesh.masks import ByteArray

_EXIF_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)


def displayed_size(image: PillowImage.Image) -> tuple[int, int]:
    """Width and height in EXIF orientation, without decoding."""
    is_sideways = image.getexif().get(_EXIF_ORIENTATION) in _SIDEWAYS
    return (image.height, image.width) if is_sideways else (image.width, image.height)


def displayed_image(image: PillowImage.Image) -> PillowImage.Image:
    """An image in EXIF orientation."""
    return ImageOps.exif_transpose(image)


def displayed_frame_size(frame: Any) -> tuple[int, int]:
    """Width and height of an ``av.VideoFrame`` after its rotation."""
    is_sideways = _quarter_turns(frame) % 2
    return (frame.height, frame.width) if is_sideways else (frame.width, frame.height)


def displayed_pixels(frame: Any) -> ByteArray:
    """The pixels of an ``av.VideoFrame`` after its rotation: [H, W, 3], uint8, RGB."""
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), _quarter_turns(frame)))


def _quarter_turns(frame: Any) -> int:
    turns: int = round(frame.rotation / 90) % 4
    return turns
