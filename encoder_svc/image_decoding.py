"""Image files to pixels."""

import io
import warnings

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageOps, UnidentifiedImageError

from maskmesh.errors import ImageTooLarge, InvalidImage
from maskmesh.images import check_pixels, check_still
from maskmesh.masks import ByteArray
from maskmesh.types import EncodedImage, Image, RawImage

FORMATS = ("JPEG", "PNG")
FIELD = "image"


def decode_image(image: Image, *, max_pixels: int) -> ByteArray:
    """Decode an image as a person would see it.

    EXIF rotation is applied, alpha dropped, grey spread to three channels, 16 bit brought to 8.
    Returns [H, W, 3], uint8, RGB.  Raises InvalidImage or ImageTooLarge (before decoding).
    """
    if isinstance(image, RawImage):
        return image.pixels
    return decode_file(image, max_pixels=max_pixels)


def decode_file(image: EncodedImage, *, max_pixels: int) -> ByteArray:
    """The part of :func:`decode_image` for JPEG and PNG files."""
    try:
        with warnings.catch_warnings():
            # Pillow's own limit is below ours or above it; ours decides.
            warnings.simplefilter("ignore", PillowImage.DecompressionBombWarning)
            opened = PillowImage.open(io.BytesIO(image.data), formats=FORMATS)
        with opened:
            check_pixels(opened.width, opened.height, field=FIELD, max_pixels=max_pixels)
            check_still(opened, field=FIELD)
            upright = ImageOps.exif_transpose(opened)
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
    ) as error:  # Pillow's ways to say that a file is broken
        raise InvalidImage(f"the image cannot be decoded: {error}", field=FIELD) from error
