import io

import numpy as np
import pytest
from PIL import Image

from maskmesh import ImageTooLarge, InvalidImage
from maskmesh.media.pictures import PixelLimit, decode_picture
from maskmesh.types import EncodedImage

LIMIT = PixelLimit(100_000, "MASKMESH_ENCODER_MAX_PIXELS")


def decode(image: EncodedImage) -> np.ndarray:
    return decode_picture(image.data, LIMIT, field="image")


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> EncodedImage:
    file = io.BytesIO()
    image.save(file, form, **options)
    return EncodedImage(file.getvalue())


def gradient(height: int = 20, width: int = 30) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 5, columns * 5, rows + columns], axis=2).astype(np.uint8)


def test_png_is_exact_and_jpeg_is_close() -> None:
    pixels = gradient()
    picture = Image.fromarray(pixels)
    np.testing.assert_array_equal(decode(encoded(picture)), pixels)
    jpeg = decode(encoded(picture, "JPEG", quality=95))
    assert np.abs(jpeg.astype(int) - pixels).mean() < 4


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_exif_rotation_is_applied(orientation: int, turns: int) -> None:
    pixels = gradient()
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = encoded(Image.fromarray(pixels), exif=exif)
    decoded = decode(stored)
    np.testing.assert_array_equal(decoded, np.rot90(pixels, turns))


def test_alpha_is_dropped() -> None:
    pixels = np.dstack([gradient(), np.full((20, 30), 7, np.uint8)])
    decoded = decode(encoded(Image.fromarray(pixels, "RGBA")))
    np.testing.assert_array_equal(decoded, gradient())


def test_grey_images_get_three_channels() -> None:
    grey = gradient()[:, :, 1]
    decoded = decode(encoded(Image.fromarray(grey)))
    np.testing.assert_array_equal(decoded, np.dstack([grey] * 3))


def test_sixteen_bit_images_are_reduced_to_eight() -> None:
    grey = (gradient()[:, :, 1].astype(np.uint16) << 8) + 99
    decoded = decode(encoded(Image.fromarray(grey)))
    np.testing.assert_array_equal(decoded, np.dstack([gradient()[:, :, 1]] * 3))


def test_palette_images_are_converted_to_rgb() -> None:
    picture = Image.fromarray(gradient()).convert("P")
    decoded = decode(encoded(picture))
    np.testing.assert_array_equal(decoded, np.asarray(picture.convert("RGB")))


def test_truncated_files_are_refused() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (80, 80, 3), np.uint8)
    whole = encoded(Image.fromarray(noise), "JPEG").data
    with pytest.raises(InvalidImage) as caught:
        decode(EncodedImage(whole[: len(whole) // 2]))
    assert caught.value.field == "image"


@pytest.mark.parametrize("side", [400, 20_000])
def test_large_images_are_refused_before_decoding(side: int) -> None:
    large = encoded(Image.new("1", (side, side)))
    with pytest.raises(ImageTooLarge) as caught:
        decode(large)
    assert caught.value.metadata["limit"] == "100000"
    assert "MASKMESH_ENCODER_MAX_PIXELS" in caught.value.message
