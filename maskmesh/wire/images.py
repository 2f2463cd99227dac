"""Conversion of images to messages and back."""

import numpy as np

from maskmesh.errors import InvalidImage
from maskmesh.media.pictures import PixelLimit
from maskmesh.types import EncodedImage, Image, RawImage
from maskmesh.v1 import types_pb2


def image_to_proto(image: Image) -> types_pb2.Image:
    """Convert an image to a message."""
    message = types_pb2.Image()
    fill_image(message, image)
    return message


def fill_image(message: types_pb2.Image, image: Image) -> None:
    """Fill a message in place, because protobuf copies a message that is assigned to a field of another."""
    if isinstance(image, EncodedImage):
        message.encoded = image.data
    else:
        message.raw.height, message.raw.width, _ = image.pixels.shape
        message.raw.rgb = image.pixels.tobytes()


def image_from_proto(message: types_pb2.Image, *, field: str, limit: PixelLimit) -> Image:
    """Convert a message to an image, checked without decoding.  Raises InvalidImage or ImageTooLarge."""
    kind = message.WhichOneof("data")
    if kind == "encoded":
        if not message.encoded:
            raise InvalidImage("the image is empty", field=field)
        return EncodedImage(message.encoded)
    if kind is None:
        raise InvalidImage("no image was sent", field=field)
    raw = message.raw
    if not raw.width or not raw.height or not raw.rgb:
        raise InvalidImage("the image is empty", field=field)
    limit.check(raw.width, raw.height, field=field)
    if len(raw.rgb) != raw.width * raw.height * 3:
        raise InvalidImage(
            f"{len(raw.rgb)} bytes are not {raw.width} x {raw.height} RGB pixels",
            field=f"{field}.raw.rgb",
        )
    pixels = np.frombuffer(raw.rgb, dtype=np.uint8).reshape(raw.height, raw.width, 3)
    return RawImage(pixels)
