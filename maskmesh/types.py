"""Value types of clients and services; :mod:`maskmesh.wire` converts them to messages and back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, TypeAlias

import numpy as np
from PIL import Image as PillowImage

from maskmesh.masks import (
    BinaryMask,
    BoolArray,
    ByteArray,
    FloatArray,
    LowResLogits,
    PackedMask,
    PngMask,
    PolygonMask,
    RleMask,
)
from maskmesh.masks.values import as_mask, binary_mask, is_binary

DEFAULT_TENANT = "default"

DTypeName: TypeAlias = Literal["float32", "bfloat16"]
DTypeSetting: TypeAlias = Literal["auto", "float32", "bfloat16"]


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


MaskLike: TypeAlias = BoolArray | ByteArray | FloatArray | PillowImage.Image | BinaryMask | LowResLogits
"""A mask as callers have it, by the rule of :func:`maskmesh.masks.values.binary_mask`."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """The location of an object: clicks, a box, a mask, or several of them.

    ``mask`` is a binary mask of the frame in a session, and the logits of an earlier response for a single
    image.  Plain values are converted: points (x, y) or (x, y, label) with label 1 for positive and 0 for
    negative, a box (x0, y0, x1, y1), a mask in any form that :func:`maskmesh.masks.values.binary_mask` takes,
    or floating [height, width] for logits.  Raises ValueError for a point, box or mask of another form.
    """

    points: Sequence[Point] = ()
    box: Box | None = None
    mask: BinaryMask | LowResLogits | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", _points(self.points))
        object.__setattr__(self, "box", _box(self.box))
        object.__setattr__(self, "mask", _mask(self.mask))

    @classmethod
    def of(
        cls,
        *,
        points: Sequence[Point | Sequence[float]] = (),
        box: Box | Sequence[float] | None = None,
        mask: MaskLike | None = None,
    ) -> "Prompt":
        """A prompt from plain values, typed as such."""
        return cls(points, box, mask)  # type: ignore[arg-type]


def _points(values: Sequence[Point | Sequence[float]] | None) -> tuple[Point, ...]:
    try:
        listed = () if values is None else tuple(values)
    except TypeError:
        raise ValueError(f"points are a list of points, got {values!r}") from None
    return tuple(_point(value) for value in listed)


def _point(value: Point | Sequence[float]) -> Point:
    try:
        if isinstance(value, Point):
            return Point(float(value.x), float(value.y), value.positive)
        if not isinstance(value, str) and (len(value) == 2 or (len(value) == 3 and value[2] in (0, 1))):
            return Point(float(value[0]), float(value[1]), len(value) == 2 or bool(value[2]))
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"a point is x, y and a label of 0 or 1, got {value!r}")


def _box(value: Box | Sequence[float] | None) -> Box | None:
    if value is None or isinstance(value, Box):
        return value
    try:
        if not isinstance(value, str) and len(value) == 4:
            return Box(*(float(number) for number in value))
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"a box is x0, y0, x1, y1, got {value!r}")


def _mask(value: MaskLike | None) -> BinaryMask | LowResLogits | None:
    if value is None or isinstance(value, RleMask | PngMask | PackedMask | PolygonMask | LowResLogits):
        return value
    value = as_mask(value)
    if not isinstance(value, PillowImage.Image):
        values = np.asarray(value)
        if values.ndim == 2 and values.dtype.kind == "f" and not (is_binary(values) and values.any()):
            return LowResLogits(values.astype(np.float32))
    return RleMask.encode(binary_mask(value))


@dataclass(frozen=True, slots=True)
class ObjectMask:
    """One object on one frame."""

    obj_id: int
    mask: BinaryMask | LowResLogits
    predicted_iou: float
    """The model's own estimate of the mask's quality, 0 to 1."""
    object_score_logit: float
    """Above zero if the model considers the object visible."""
    box: Box | None = None
    """The smallest box around the mask, None if the mask is empty."""
    concept_id: int | None = None
    """The concept that found the object; None for other objects."""
    concept_score: float = 0.0
    """The probability that the object is an instance of its concept, as of its latest detection."""


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
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    """Seconds that each stage worked on the frame, by span name, without queueing and transfers."""
    time: float | None = None
    """Seconds since the first frame of the video; None for images and live streams."""
    repeats_previous: bool = False
    """Whether the video is damaged here, so that the masks are those of the nearest earlier picture."""
    new_obj_ids: Sequence[int] = ()
    """Objects that concepts found on this frame."""
    gone_obj_ids: Sequence[int] = ()
    """Objects of concepts that left on this frame, because detections did not confirm them."""
    held_back_obj_ids: Sequence[int] = ()
    """Objects of concepts that are followed, but whose masks are withheld on this frame."""
    resume_token: str = field(default="", compare=False)
    """Token that resumes the propagation after this frame."""


@dataclass(frozen=True, slots=True)
class ImageMasks:
    """All masks of one image: for each object one mask, or alternatives with the most confident first."""

    objects: Mapping[int, Sequence[ObjectMask]]
    width: int
    height: int
    trace_id: str = ""


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
    """An uncompressed image: [height, width, 3], uint8, RGB."""

    pixels: ByteArray


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """The bytes of a JPEG or PNG file."""

    data: bytes = field(repr=False)


Image: TypeAlias = RawImage | EncodedImage


class Block(NamedTuple):
    """A block of shared memory by its number; ``generation`` identifies its content."""

    number: int
    generation: int


@dataclass(frozen=True, slots=True)
class SharedBlock:
    """The location of an embedding in shared memory: a block of the file in an encoder replica's folder."""

    folder: str
    block: Block


@dataclass(frozen=True, slots=True)
class EmbeddingRef:
    """The location of an embedding in an encoder, without its tensors."""

    key: str
    model_id: str
    address: str
    num_bytes: int
    image_width: int
    image_height: int
    tenant: str = DEFAULT_TENANT
    shared: SharedBlock | None = None
    """Location in shared memory, for trackers that opened and verified that memory in an earlier fetch."""
    filled_by: str = field(default="", compare=False)
    """W3C trace context of the call that computed it; empty if that is unknown."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, type and shape of one tensor on the wire: row-major, little-endian."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    ITEM_BYTES: ClassVar[dict[str, int]] = {"float32": 4, "bfloat16": 2, "float16": 2}

    @property
    def num_bytes(self) -> int:
        """The size of its elements in bytes."""
        return int(np.prod(self.shape)) * self.ITEM_BYTES[self.dtype]


@dataclass(frozen=True, slots=True)
class Tls:
    """How a client verifies a service, and the certificate that it presents.  Files are PEM."""

    ca: Path | None = None
    """Certificates of the trusted authorities; None means gRPC's default ones."""
    cert: Path | None = None
    """The client's certificate chain, for services that require one."""
    key: Path | None = None
    """The private key of ``cert``."""
    server_name: str = ""
    """The name that the service's certificate must have, by default the host that is called."""

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key must be given together")

    @property
    def files(self) -> tuple[Path | None, Path | None, Path | None]:
        """``ca``, ``cert`` and ``key``."""
        return self.ca, self.cert, self.key
