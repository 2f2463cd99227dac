"""What counts as motion."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage

from gateway.live.motion_gate import CELL, CELLS, DEFAULT_THRESHOLD, motion
from maskmesh.masks import ByteArray
from maskmesh.media.pictures import grey_thumbnail
from maskmesh.types import EncodedImage, Image, RawImage

RANDOM = np.random.default_rng(0)
SCENE = np.kron(RANDOM.integers(40, 200, (12, 20, 3)), np.ones((30, 32, 1))).astype(np.uint8)


def thumbnail(image: Image) -> ByteArray:
    return grey_thumbnail(image, CELLS * CELL, field="image")


def raw(pixels: ByteArray) -> Image:
    return RawImage(pixels)


def jpeg(pixels: ByteArray) -> Image:
    buffer = io.BytesIO()
    PillowImage.fromarray(pixels).save(buffer, "JPEG", quality=85)
    return EncodedImage(buffer.getvalue())


def noisy(sigma: float) -> ByteArray:
    noise = RANDOM.normal(0, sigma, SCENE.shape)
    return np.clip(SCENE + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("form", [raw, jpeg])
def test_the_noise_of_a_camera_is_no_motion(form: type) -> None:
    assert motion(thumbnail(form(noisy(4))), thumbnail(form(noisy(4)))) < DEFAULT_THRESHOLD


@pytest.mark.parametrize("form", [raw, jpeg])
def test_a_small_thing_that_moves_is_motion(form: type) -> None:
    moved = SCENE.copy()
    moved[100:124, 200:224] = 255 - moved[100:124, 200:224]
    assert motion(thumbnail(form(SCENE)), thumbnail(form(moved))) > 2 * DEFAULT_THRESHOLD


def png(pixels: NDArray[np.uint16]) -> Image:
    buffer = io.BytesIO()
    PillowImage.fromarray(pixels).save(buffer, "PNG")
    return EncodedImage(buffer.getvalue())


def test_motion_is_seen_in_pixels_of_16_bits() -> None:
    before = np.full((60, 80), 20_000, np.uint16)
    after = before.copy()
    after[20:30, 30:40] = 60_000
    assert motion(thumbnail(png(before)), thumbnail(png(before))) == 0
    assert motion(thumbnail(png(before)), thumbnail(png(after))) > 2 * DEFAULT_THRESHOLD


@pytest.mark.parametrize("shape", [(3, 5), (200, 31), (1080, 1920)])
def test_every_size_has_a_thumbnail(shape: tuple[int, int]) -> None:
    assert thumbnail(raw(np.zeros((*shape, 3), np.uint8))).shape == (CELLS * CELL, CELLS * CELL)
