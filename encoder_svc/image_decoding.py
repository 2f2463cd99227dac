"""Decodes image files to pixels."""

import io
import warnings

import numpy as np
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from maskmesh.errors import ImageTooLarge, InvalidImage
from maskmesh.images import check_pixels, check_still
from maskmesh.masks import ByteArray
from maskmesh.orientation import displayed_image
from maskmesh.types import EncodedImage, Image, RawImage

FORMATS = ("JPEG", "PNG")
FIELD = "image"


def decode_image(image: Image, *, max_pixels: int) -> ByteArray:
    """Decode an image to RGB pixels in display orientation.

    Applies the EXIF orientation, drops alpha, and converts grey to three channels and 16 bits to 8.
    Returns [H, W, 3], uint8, RGB.  Raises InvalidImage, and ImageTooLarge before decoding.
    """
    if isinstance(image, RawImage):
        return image.pixels
    return decode_file(image, max_pixels=max_pixels)


def decode_file(image: EncodedImage, *, max_pixels: int) -> ByteArray:
    """Decode a JPEG or PNG file, as described in :func:`decode_image`."""
    try:
        with warnings.catch_warnings():
            # ``max_pixels`` replaces Pillow's own limit.
            warnings.simplefilter("ignore", PillowImage.DecompressionBombWarning)
            opened = PillowImage.open(io.BytesIO(image.data), formats=FORMATS)
        with opened:
            check_pixels(opened.width, opened.height, field=FIELD, max_pixels=max_pixels)
            check_still(opened, field=FIELD)
            upright = displayed_image(opened)
            if upright.mode.startswith("I"):  # 16 bit grey
                grey = (np.asarray(upright).astype(np.uint32) >> 8).astype(np.uint8)
                return np.repeat(grey[:, :, None], 3, axis=2)
            return np.asarray(upright.convert("RGB"))
    except PillowImage.DecompressionBombError as error:
        raise ImageTooLarge(str(error), field=FIELD, limit=max_pixels) from error
    except UnidentifiedImageError as error:
        raise InvalidImage("the image is neither JPEG nor PNG", field=FIELD) from error
    except (
        OSError,
        SyntaxError,
        ValueError,
    ) as error:  # the errors that Pillow raises for a corrupt file
        raise InvalidImage(f"the image cannot be decoded: {error}", field=FIELD) from error
