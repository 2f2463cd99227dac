"""The source images: a folder of images with one mask each, split by name."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from maskmesh.masks import BoolArray, ByteArray

# The split of ECSSD's first 800 images; training scenes never contain held-out images.
TRAINING_NAMES = tuple(f"{number:04d}" for number in range(1, 721))
VALIDATION_NAMES = tuple(f"{number:04d}" for number in range(721, 801))

# Images are stored as squares of this side: the input of the model is square, and each warp resamples once.
SOURCE_SIZE = 352


@dataclass(frozen=True, slots=True)
class Source:
    """One image and the mask of its object, both [SOURCE_SIZE, SOURCE_SIZE]."""

    name: str
    picture: ByteArray  # [..., 3], RGB
    mask: ByteArray  # 0 to 255


def read_picture(path: Path) -> ByteArray:
    """Read an image file as [H, W, 3], uint8, RGB.  Raises FileNotFoundError if it cannot be read."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise FileNotFoundError(f"{path} is not a readable image")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def read_mask(path: Path) -> BoolArray:
    """Read a mask file as [H, W], true above 127.  Raises FileNotFoundError if it cannot be read."""
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise FileNotFoundError(f"{path} is not a readable image")
    return np.asarray(mask) > 127


def resized(image: ByteArray, side: int) -> ByteArray:
    """Resize an image to a square, with averaging to shrink and interpolation to enlarge."""
    shrinks = image.shape[0] * image.shape[1] > side * side
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (side, side), interpolation=method), dtype=np.uint8)


def load_sources(root: Path, names: Iterable[str]) -> list[Source]:
    """Read ``images/NAME.jpg`` and ``masks/NAME.png`` of every name, made square.

    Raises FileNotFoundError for the first missing file.
    """
    sources = []
    for name in names:
        picture = read_picture(root / "images" / f"{name}.jpg")
        mask = read_mask(root / "masks" / f"{name}.png").astype(np.uint8) * 255
        sources.append(
            Source(
                name,
                resized(picture, SOURCE_SIZE),
                resized(mask, SOURCE_SIZE),
            )
        )
    return sources
