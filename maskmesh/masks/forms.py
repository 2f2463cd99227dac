"""Mask formats of results and prompts."""

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from pycocotools import mask as coco

from maskmesh.masks.png import png_size
from maskmesh.masks.polygons import PolygonMask
from maskmesh.masks.values import binary_mask, decode_mask_file

BoolArray: TypeAlias = NDArray[np.bool_]
FloatArray: TypeAlias = NDArray[np.float32]
ByteArray: TypeAlias = NDArray[np.uint8]


class MaskFormat(IntEnum):
    """The form in which masks are returned."""

    COCO_RLE = 1
    LOW_RES_LOGITS = 2
    PNG = 3
    PACKED_BITS = 4
    POLYGONS = 5


class MaskSpace(IntEnum):
    """The size in which masks are returned."""

    IMAGE = 1
    """The size of the frame or image."""
    MODEL = 2
    """The size of the model's own masks, a quarter of its input: square and not upsampled."""


@dataclass(frozen=True, slots=True)
class MaskOptions:
    """How masks are returned.

    ``space`` None means the size of the image, except for logits, which have the model's size only.  With
    ``non_overlapping`` every pixel belongs to at most one object, that with the largest logit.  The last
    options clean masks that are shown; none of them affects the memory bank.
    """

    format: MaskFormat = MaskFormat.COCO_RLE
    space: MaskSpace | None = None
    non_overlapping: bool = False
    fill_holes_area: int = 0
    """Largest number of pixels of a hole that is filled."""
    remove_specks_area: int = 0
    """Largest number of pixels of a separate part that is removed; the largest part always stays."""
    polygon_tolerance: float = 0.0
    """How far the lines of polygons may lie from the mask, in pixels."""

    @property
    def is_upsampled(self) -> bool:
        """Whether masks have the size of the image."""
        return self.format is not MaskFormat.LOW_RES_LOGITS and self.space is not MaskSpace.MODEL


@dataclass(frozen=True, slots=True)
class RleMask:
    """A binary mask of ``height`` x ``width`` pixels in COCO's compressed run-length encoding."""

    height: int
    width: int
    counts: bytes

    @classmethod
    def encode(cls, mask: BoolArray) -> "RleMask":
        """mask: [height, width], bool."""
        counts = coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]
        height, width = mask.shape
        return cls(height, width, counts if isinstance(counts, bytes) else counts.encode())

    def decode(self) -> BoolArray:
        """Returns [height, width], bool.  Raises ValueError if the runs do not fill the size."""
        if _covered_pixels(self.counts) != self.height * self.width:
            raise ValueError(f"the runs do not fill {self.width} x {self.height} pixels")
        with warnings.catch_warnings():
            # pycocotools has not caught up with the copy keyword of NumPy 2.
            warnings.simplefilter("ignore", DeprecationWarning)
            decoded = coco.decode({"size": [self.height, self.width], "counts": self.counts})
        return decoded.astype(bool)

    def to_coco(self) -> dict[str, object]:
        """The JSON form that COCO's tools read."""
        return {"size": [self.height, self.width], "counts": self.counts.decode("ascii")}

    @classmethod
    def from_coco(cls, segmentation: Mapping[str, Any]) -> "RleMask":
        """Read COCO's JSON form.  Raises KeyError, TypeError or ValueError if it is malformed."""
        height, width = segmentation["size"]
        counts = segmentation["counts"]
        if not isinstance(counts, str):
            raise TypeError("counts is not a string: only compressed RLE is supported")
        return cls(int(height), int(width), counts.encode())


_LONGEST_RUN_BITS = 40


def _covered_pixels(counts: bytes) -> int:
    """The sum of the run lengths of a compressed string, -1 if it is malformed.

    pycocotools does not check the sum, and returns uninitialised memory if runs are missing.
    """
    runs: list[int] = []
    value, shift = 0, 0
    for byte in counts:
        digit = byte - 48
        if not 0 <= digit < 64:
            return -1
        value |= (digit & 0x1F) << shift
        shift += 5
        if shift > _LONGEST_RUN_BITS:
            return -1
        if digit & 0x20:
            continue
        if digit & 0x10:
            value -= 1 << shift
        # From the fourth run on, the string has the difference from the run two before.
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        if runs[-1] < 0:
            return -1
        value, shift = 0, 0
    return -1 if shift else sum(runs)


@dataclass(frozen=True, slots=True)
class PngMask:
    """A binary mask as a PNG file: 255 inside the object and 0 outside; other files by the rule of
    :mod:`maskmesh.masks.values`.
    """

    height: int
    width: int
    data: bytes = field(repr=False)

    @classmethod
    def encode(cls, mask: BoolArray) -> "PngMask":
        """mask: [height, width], bool."""
        file = io.BytesIO()
        PillowImage.fromarray(mask.astype(np.uint8) * 255).save(file, "PNG", compress_level=1)
        height, width = mask.shape
        return cls(height, width, file.getvalue())

    def decode(self) -> BoolArray:
        """Returns [height, width], bool, by the rule of :mod:`maskmesh.masks.values`.

        Raises ValueError if the file is not a PNG file of this size with one object.
        """
        size = png_size(self.data)
        if size != (self.width, self.height):
            # Not decoded: the file may be much larger than the frame.
            raise ValueError(f"the file is {size[0]} x {size[1]}")
        return binary_mask(decode_mask_file(self.data, ("PNG",)))


@dataclass(frozen=True, slots=True)
class PackedMask:
    """A binary mask as one bit for each pixel: in row order, without gaps, the highest bit first."""

    height: int
    width: int
    bits: bytes = field(repr=False)

    @classmethod
    def encode(cls, mask: BoolArray) -> "PackedMask":
        """mask: [height, width], bool."""
        height, width = mask.shape
        return cls(height, width, np.packbits(mask).tobytes())

    def decode(self) -> BoolArray:
        """Returns [height, width], bool.  Raises ValueError if the bits do not fill the size."""
        count = self.height * self.width
        if len(self.bits) != (count + 7) // 8:
            raise ValueError(f"{len(self.bits)} bytes are not {self.height} x {self.width} bits")
        bits = np.unpackbits(np.frombuffer(self.bits, dtype=np.uint8), count=count)
        return bits.reshape(self.height, self.width).astype(bool)


BinaryMask: TypeAlias = RleMask | PngMask | PackedMask | PolygonMask

BINARY_FORMS: Mapping[MaskFormat, type[RleMask] | type[PngMask] | type[PackedMask] | type[PolygonMask]] = {
    MaskFormat.COCO_RLE: RleMask,
    MaskFormat.PNG: PngMask,
    MaskFormat.PACKED_BITS: PackedMask,
    MaskFormat.POLYGONS: PolygonMask,
}


@dataclass(frozen=True, slots=True, eq=False)
class LowResLogits:
    """Mask logits at a quarter of the model's image size: [height, width], float32."""

    values: FloatArray
