"""The values that clients and services speak in; :mod:`maskmesh.wire` turns them into messages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

BoolArray: TypeAlias = NDArray[np.bool_]
FloatArray: TypeAlias = NDArray[np.float32]
ByteArray: TypeAlias = NDArray[np.uint8]


class MaskFormat(IntEnum):
    """The form in which masks are returned."""

    COCO_RLE = 1
    LOW_RES_LOGITS = 2


@dataclass(frozen=True, slots=True)
class Point:
    """A click, in pixels of the original frame, the origin at its top left corner."""

    x: float
    y: float
    positive: bool = True


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-parallel box, in pixels of the original frame; x0 < x1 and y0 < y1."""

    x0: float
    y0: float
    x1: float
    y1: float


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
        """Returns [height, width], bool.  Raises ValueError where the counts do not fill the size."""
        if _covered_pixels(self.counts) != self.height * self.width:
            raise ValueError(f"the runs do not fill {self.width} x {self.height} pixels")
        decoded = coco.decode({"size": [self.height, self.width], "counts": self.counts})
        return decoded.astype(bool)

    def to_coco(self) -> dict[str, object]:
        """The JSON form that COCO's tools read."""
        return {"size": [self.height, self.width], "counts": self.counts.decode("ascii")}

    @classmethod
    def from_coco(cls, segmentation: Mapping[str, Any]) -> "RleMask":
        """From the JSON form.  Raises KeyError, TypeError or ValueError where it has another one."""
        height, width = segmentation["size"]
        counts = segmentation["counts"]
        if not isinstance(counts, str):
            raise TypeError("counts is not a string: only compressed runs are read")
        return cls(int(height), int(width), counts.encode())


_LONGEST_RUN_BITS = 40


def _covered_pixels(counts: bytes) -> int:
    """The sum of the run lengths of a compressed string, -1 for one that is malformed.

    pycocotools does not check it, and returns memory that nobody wrote where runs are missing.
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
        # From the fourth on, a run is stored as its difference from the one two before.
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        if runs[-1] < 0:
            return -1
        value, shift = 0, 0
    return -1 if shift else sum(runs)


@dataclass(frozen=True, slots=True, eq=False)
class LowResLogits:
    """Mask logits at a quarter of the model's image size: [height, width], float32."""

    values: FloatArray


@dataclass(frozen=True, slots=True)
class Prompt:
    """Where an object is: clicks, a box, a mask, or several of them.

    ``mask`` is, in a session, a binary mask of the frame; on a single image, logits of an earlier answer.
    """

    points: Sequence[Point] = ()
    box: Box | None = None
    mask: RleMask | LowResLogits | None = None

    @classmethod
    def of(
        cls,
        *,
        points: Sequence[Point | Sequence[float]] = (),
        box: Box | Sequence[float] | None = None,
        mask: BoolArray | FloatArray | RleMask | LowResLogits | None = None,
    ) -> "Prompt":
        """A prompt from plain values.

        points: (x, y), or (x, y, label) with label 1 for positive and 0 for negative.  box: (x0, y0, x1,
        y1).  mask: [height, width], bool for a binary mask, floating for logits.
        Raises ValueError for a point, box or mask of another form.
        """
        if isinstance(mask, np.ndarray):
            if mask.ndim != 2:
                raise ValueError(f"a mask is [height, width], got {list(mask.shape)}")
            if mask.dtype == np.bool_:
                mask = RleMask.encode(mask.astype(np.bool_))
            else:
                mask = LowResLogits(mask.astype(np.float32))
        if box is not None and not isinstance(box, Box):
            if len(box) != 4:
                raise ValueError(f"a box is x0, y0, x1, y1, got {list(box)}")
            box = Box(*box)
        return cls(tuple(_point(p) for p in points), box, mask)


def _point(value: Point | Sequence[float]) -> Point:
    if isinstance(value, Point):
        return value
    if len(value) == 2 or (len(value) == 3 and value[2] in (0, 1)):
        return Point(value[0], value[1], len(value) == 2 or bool(value[2]))
    raise ValueError(f"a point is x, y and a label of 0 or 1, got {list(value)}")


@dataclass(frozen=True, slots=True)
class ObjectMask:
    """One object on one frame."""

    obj_id: int
    mask: RleMask | LowResLogits
    predicted_iou: float
    """The model's own estimate of the mask's quality, 0 to 1."""
    object_score_logit: float
    """Above zero where the model finds the object in sight."""


@dataclass(frozen=True, slots=True)
class FrameMasks:
    """All objects on one frame."""

    frame_index: int
    objects: Mapping[int, ObjectMask]
    """By ``obj_id``, in the order in which the objects were added."""
    width: int
    height: int
    conditioning: bool = False
    """True if an object was prompted on this frame."""
    trace_id: str = ""
    """The frame's trace, 32 hexadecimal digits."""


@dataclass(frozen=True, slots=True)
class ImageMasks:
    """All masks of one image: for each object one, or alternatives with the most confident first."""

    objects: Mapping[int, Sequence[ObjectMask]]
    width: int
    height: int
    trace_id: str = ""


@dataclass(frozen=True, slots=True)
class ModelId:
    """What makes embeddings of two models interchangeable: all of it must agree."""

    name: str
    weights: str
    """A digest of the weights of the whole model."""
    image_size: int
    dtype: str
    preprocessing: int
    quantisation: str = "none"

    def __str__(self) -> str:
        return (
            f"{self.name}/{self.weights[:16]}/{self.image_size}/{self.dtype}"
            f"/{self.quantisation}/preprocess-{self.preprocessing}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """The model that a service runs."""

    model_id: str
    name: str
    image_size: int
    trained: bool
    parameters: int
    device: str
    dtype: str
    threads: int
    warm_up_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class RawImage:
    """An image without compression: [height, width, 3], uint8, RGB."""

    pixels: ByteArray


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """The bytes of a JPEG or PNG file."""

    data: bytes = field(repr=False)


Image: TypeAlias = RawImage | EncodedImage


@dataclass(frozen=True, slots=True)
class EmbeddingRef:
    """Where an embedding is, without the embedding."""

    key: str
    model_id: str
    address: str
    num_bytes: int
    image_width: int
    image_height: int
    tenant: str = "default"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, type and shape of one tensor on the wire: row order, little-endian."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    ITEM_BYTES: ClassVar[dict[str, int]] = {"float32": 4, "bfloat16": 2, "float16": 2}

    @property
    def num_bytes(self) -> int:
        """The size of its elements in bytes."""
        return int(np.prod(self.shape)) * self.ITEM_BYTES[self.dtype]
