"""Where pictures come from: a folder of images with one mask each, split by name."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from maskmesh.masks import BoolArray, ByteArray

# The split of ECSSD's first 800 images: what is held out never enters a training scene.
TRAINING_NAMES = tuple(f"{number:04d}" for number in range(1, 721))
VALIDATION_NAMES = tuple(f"{number:04d}" for number in range(721, 801))

# Pictures are held as squares of this side: the model sees squares, and warps from them resample once.
SOURCE_SIZE = 352


@dataclass(frozen=True, slots=True)
class Source:
    """One picture and the mask of its object, both [SOURCE_SIZE, SOURCE_SIZE]."""

    name: str
    picture: ByteArray  # [..., 3], RGB
    mask: ByteArray  # 0 to 255


def read_picture(path: Path) -> ByteArray:
    """An image file as [H, W, 3], uint8, RGB.  Raises FileNotFoundError where there is none."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise FileNotFoundError(f"{path} is not an image that can be read")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def read_mask(path: Path) -> BoolArray:
    """A mask file as [H, W], true above half.  Raises FileNotFoundError where there is none."""
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise FileNotFoundError(f"{path} is not an image that can be read")
    return np.asarray(mask) > 127


def resized(image: ByteArray, side: int) -> ByteArray:
    """An image brought to a square: averaged where it shrinks, interpolated where it grows."""
    shrinks = image.shape[0] * image.shape[1] > side * side
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (side, side), interpolation=method), dtype=np.uint8)


def load_sources(root: Path, names: Iterable[str]) -> list[Source]:
    """Read ``images/NAME.jpg`` and ``masks/NAME.png`` of every name, made square.

    Raises FileNotFoundError naming the first file that is missing.
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
