"""Between values and messages: checks what comes in, and never changes what it means."""

import hashlib
import math
from collections.abc import Sequence

import numpy as np

from maskmesh.errors import ImageTooLarge, InvalidImage, InvalidPrompt, InvalidRequest
from maskmesh.internal.v1 import embedding_pb2
from maskmesh.types import (
    Box,
    EmbeddingRef,
    EncodedImage,
    FrameMasks,
    Image,
    LowResLogits,
    MaskFormat,
    ModelInfo,
    ObjectMask,
    Point,
    Prompt,
    RawImage,
    RleMask,
    TensorSpec,
)
from maskmesh.v1 import types_pb2

DEFAULT_TENANT = "default"
MAX_POINTS = 256

_LABELS = {types_pb2.POINT_LABEL_NEGATIVE: False, types_pb2.POINT_LABEL_POSITIVE: True}
_MASK_FORMATS = {
    MaskFormat.COCO_RLE: types_pb2.MASK_FORMAT_COCO_RLE,
    MaskFormat.LOW_RES_LOGITS: types_pb2.MASK_FORMAT_LOW_RES_LOGITS,
}
_DTYPES = {
    "float32": embedding_pb2.D_TYPE_FLOAT32,
    "bfloat16": embedding_pb2.D_TYPE_BFLOAT16,
    "float16": embedding_pb2.D_TYPE_FLOAT16,
}


# Prompts and masks


def prompt_to_proto(prompt: Prompt) -> types_pb2.Prompt:
    """A prompt as it is sent; it is checked where it arrives."""
    message = types_pb2.Prompt()
    for point in prompt.points:
        label = types_pb2.POINT_LABEL_POSITIVE if point.positive else types_pb2.POINT_LABEL_NEGATIVE
        message.points.add(x=point.x, y=point.y, label=label)
    if prompt.box is not None:
        box = prompt.box
        message.box.CopyFrom(types_pb2.Box(x0=box.x0, y0=box.y0, x1=box.x1, y1=box.y1))
    if prompt.mask is not None:
        message.mask.CopyFrom(mask_to_proto(prompt.mask))
    return message


def prompt_from_proto(message: types_pb2.Prompt, *, width: int, height: int, field: str) -> Prompt:
    """Check a prompt against the size of its frame.  ``field`` is where it stands in the request.

    Raises InvalidPrompt naming the first thing that is wrong.
    """
    if len(message.points) > MAX_POINTS:
        raise InvalidPrompt(f"at most {MAX_POINTS} points are allowed", field=f"{field}.points")
    points = []
    for index, point in enumerate(message.points):
        name = f"{field}.points[{index}]"
        _check_coordinate(point.x, width, f"{name}.x")
        _check_coordinate(point.y, height, f"{name}.y")
        if point.label not in _LABELS:
            raise InvalidPrompt("a point's label must be set", field=f"{name}.label")
        points.append(Point(point.x, point.y, _LABELS[point.label]))
    box = None
    if message.HasField("box"):
        box = Box(message.box.x0, message.box.y0, message.box.x1, message.box.y1)
        for name, value, limit in (
            ("x0", box.x0, width),
            ("y0", box.y0, height),
            ("x1", box.x1, width),
            ("y1", box.y1, height),
        ):
            _check_coordinate(value, limit, f"{field}.box.{name}")
        if box.x0 >= box.x1 or box.y0 >= box.y1:
            raise InvalidPrompt("a box needs x0 < x1 and y0 < y1", field=f"{field}.box")
    mask = None
    if message.HasField("mask"):
        mask = mask_from_proto(message.mask, field=f"{field}.mask")
    if not points and box is None and mask is None:
        raise InvalidPrompt("a prompt needs points, a box or a mask", field=field)
    return Prompt(points, box, mask)


def _check_coordinate(value: float, limit: int, field: str) -> None:
    if not math.isfinite(value):
        raise InvalidPrompt(f"a coordinate must be finite, got {value}", field=field)
    if not 0 <= value <= limit:
        raise InvalidPrompt(f"{value:g} lies outside the frame (0 to {limit})", field=field)


def mask_to_proto(mask: RleMask | LowResLogits) -> types_pb2.Mask:
    """A mask as it is sent."""
    if isinstance(mask, RleMask):
        rle = types_pb2.RleMask(height=mask.height, width=mask.width, counts=mask.counts)
        return types_pb2.Mask(rle=rle)
    values = np.ascontiguousarray(mask.values, dtype="<f4")
    logits = types_pb2.LowResLogits(height=values.shape[0], width=values.shape[1], values=values.tobytes())
    return types_pb2.Mask(low_res_logits=logits)


def mask_from_proto(message: types_pb2.Mask, *, field: str = "mask") -> RleMask | LowResLogits:
    """Raises InvalidPrompt where the mask is empty, or its bytes do not fill its size."""
    if message.WhichOneof("form") == "rle":
        rle = message.rle
        if not rle.height or not rle.width or not rle.counts:
            raise InvalidPrompt("a mask must not be empty", field=f"{field}.rle")
        return RleMask(rle.height, rle.width, rle.counts)
    if message.WhichOneof("form") == "low_res_logits":
        logits = message.low_res_logits
        if len(logits.values) != 4 * logits.height * logits.width or not logits.values:
            raise InvalidPrompt(
                f"{len(logits.values)} bytes are not {logits.height} x {logits.width} float32",
                field=f"{field}.low_res_logits.values",
            )
        values = np.frombuffer(logits.values, dtype="<f4").reshape(logits.height, logits.width)
        if not np.isfinite(values).all():
            raise InvalidPrompt("logits must be finite", field=f"{field}.low_res_logits.values")
        return LowResLogits(values)
    raise InvalidPrompt("a mask must not be empty", field=field)


def mask_format_from_proto(value: int) -> MaskFormat:
    """Unspecified means COCO RLE.  Raises InvalidRequest for an unknown number."""
    if value == types_pb2.MASK_FORMAT_UNSPECIFIED:
        return MaskFormat.COCO_RLE
    try:
        return MaskFormat(value)
    except ValueError:
        raise InvalidRequest(f"unknown mask format {value}", field="mask_format") from None


def mask_format_to_proto(value: MaskFormat) -> types_pb2.MaskFormat:
    """The form of masks as it is sent."""
    return _MASK_FORMATS[value]


def object_mask_to_proto(mask: ObjectMask) -> types_pb2.ObjectMask:
    """One object on one frame as it is sent."""
    return types_pb2.ObjectMask(
        obj_id=mask.obj_id,
        mask=mask_to_proto(mask.mask),
        predicted_iou=mask.predicted_iou,
        object_score_logit=mask.object_score_logit,
    )


def object_mask_from_proto(message: types_pb2.ObjectMask) -> ObjectMask:
    """One object on one frame as it came."""
    return ObjectMask(
        obj_id=message.obj_id,
        mask=mask_from_proto(message.mask),
        predicted_iou=message.predicted_iou,
        object_score_logit=message.object_score_logit,
    )


def frame_masks_from_proto(message: types_pb2.FrameMasks) -> FrameMasks:
    """All objects on one frame as they came."""
    return FrameMasks(
        frame_index=message.frame_index,
        objects={o.obj_id: object_mask_from_proto(o) for o in message.objects},
        width=message.width,
        height=message.height,
        conditioning=message.conditioning,
        trace_id=message.trace_id,
    )


# Images


def image_key(image: Image) -> str:
    """The digest that names an image's content: of the file, or of size and pixels."""
    digest = hashlib.sha256()
    if isinstance(image, EncodedImage):
        digest.update(image.data)
    else:
        height, width, _ = image.pixels.shape
        digest.update(f"{width} x {height}".encode())
        digest.update(np.ascontiguousarray(image.pixels).data)
    return f"sha256:{digest.hexdigest()}"


def image_to_proto(image: Image) -> types_pb2.Image:
    """An image as it is sent."""
    if isinstance(image, EncodedImage):
        return types_pb2.Image(encoded=image.data)
    height, width, _ = image.pixels.shape
    raw = types_pb2.RawImage(width=width, height=height, rgb=image.pixels.tobytes())
    return types_pb2.Image(raw=raw)


def image_from_proto(message: types_pb2.Image, *, field: str, max_pixels: int) -> Image:
    """Check what can be checked without decoding.  Raises InvalidImage or ImageTooLarge."""
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
    check_pixels(raw.width, raw.height, field=field, max_pixels=max_pixels)
    if len(raw.rgb) != raw.width * raw.height * 3:
        raise InvalidImage(
            f"{len(raw.rgb)} bytes are not {raw.width} x {raw.height} RGB pixels",
            field=f"{field}.raw.rgb",
        )
    pixels = np.frombuffer(raw.rgb, dtype=np.uint8).reshape(raw.height, raw.width, 3)
    return RawImage(pixels)


def check_pixels(width: int, height: int, *, field: str, max_pixels: int) -> None:
    """Raises ImageTooLarge where an image has more than ``max_pixels``."""
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"{width} x {height} pixels are more than {max_pixels}", field=field, limit=max_pixels
        )


# Embeddings


def ref_to_proto(ref: EmbeddingRef) -> embedding_pb2.EmbeddingRef:
    """A reference as it is sent."""
    return embedding_pb2.EmbeddingRef(
        key=ref.key,
        model_id=ref.model_id,
        address=ref.address,
        num_bytes=ref.num_bytes,
        image_width=ref.image_width,
        image_height=ref.image_height,
        tenant=ref.tenant,
    )


def ref_from_proto(message: embedding_pb2.EmbeddingRef) -> EmbeddingRef:
    """Raises InvalidRequest where a reference is incomplete."""
    for field in ("key", "model_id", "address", "image_width", "image_height"):
        if not getattr(message, field):
            raise InvalidRequest("a reference to an embedding is incomplete", field=f"embedding.{field}")
    return EmbeddingRef(
        key=message.key,
        model_id=message.model_id,
        address=message.address,
        num_bytes=message.num_bytes,
        image_width=message.image_width,
        image_height=message.image_height,
        tenant=message.tenant or DEFAULT_TENANT,
    )


def tensor_spec_to_proto(spec: TensorSpec) -> embedding_pb2.TensorSpec:
    """The description of a tensor as it is sent."""
    return embedding_pb2.TensorSpec(name=spec.name, dtype=_DTYPES[spec.dtype], shape=spec.shape)


def tensor_specs_from_proto(messages: Sequence[embedding_pb2.TensorSpec]) -> list[TensorSpec]:
    """Raises InvalidRequest for an unknown type."""
    names = {number: name for name, number in _DTYPES.items()}
    for message in messages:
        if message.dtype not in names:
            raise InvalidRequest(f"unknown type {message.dtype}", field="tensors.dtype")
    return [TensorSpec(m.name, names[m.dtype], tuple(m.shape)) for m in messages]


# Others


def model_info_to_proto(info: ModelInfo) -> types_pb2.ModelInfo:
    """The description of a model as it is sent."""
    return types_pb2.ModelInfo(
        model_id=info.model_id,
        name=info.name,
        image_size=info.image_size,
        trained=info.trained,
        parameters=info.parameters,
        device=info.device,
        dtype=info.dtype,
        threads=info.threads,
        warm_up_seconds=info.warm_up_seconds,
    )


def model_info_from_proto(message: types_pb2.ModelInfo) -> ModelInfo:
    """The description of a model as it came."""
    return ModelInfo(
        model_id=message.model_id,
        name=message.name,
        image_size=message.image_size,
        trained=message.trained,
        parameters=message.parameters,
        device=message.device,
        dtype=message.dtype,
        threads=message.threads,
        warm_up_seconds=message.warm_up_seconds,
    )
