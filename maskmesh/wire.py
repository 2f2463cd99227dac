"""Between values and messages: checks what comes in, and never changes what it means."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from maskmesh.errors import ImageTooLarge, InvalidImage, InvalidPrompt, InvalidRequest
from maskmesh.masks import (
    BinaryMask,
    LowResLogits,
    MaskFormat,
    MaskOptions,
    MaskSpace,
    PackedMask,
    PngMask,
    RleMask,
)
from maskmesh.types import (
    Box,
    EncodedImage,
    FrameMasks,
    Image,
    ModelInfo,
    ObjectMask,
    Point,
    Prompt,
    RawImage,
)
from maskmesh.v1 import types_pb2

DEFAULT_TENANT = "default"
MAX_POINTS = 256

_BINARY_FORMS: Mapping[str, tuple[str, Callable[[int, int, bytes], BinaryMask]]] = {
    "rle": ("counts", RleMask),
    "png": ("data", PngMask),
    "packed_bits": ("bits", PackedMask),
}
_LABELS = {types_pb2.POINT_LABEL_NEGATIVE: False, types_pb2.POINT_LABEL_POSITIVE: True}
_MASK_FORMATS = {
    MaskFormat.COCO_RLE: types_pb2.MASK_FORMAT_COCO_RLE,
    MaskFormat.LOW_RES_LOGITS: types_pb2.MASK_FORMAT_LOW_RES_LOGITS,
    MaskFormat.PNG: types_pb2.MASK_FORMAT_PNG,
    MaskFormat.PACKED_BITS: types_pb2.MASK_FORMAT_PACKED_BITS,
}
_MASK_SPACES = {
    MaskSpace.IMAGE: types_pb2.MASK_SPACE_IMAGE,
    MaskSpace.MODEL: types_pb2.MASK_SPACE_MODEL,
}


# Prompts and masks


def prompt_to_proto(prompt: Prompt) -> types_pb2.Prompt:
    """A prompt as it is sent; it is checked where it arrives."""
    message = types_pb2.Prompt()
    for point in prompt.points:
        label = types_pb2.POINT_LABEL_POSITIVE if point.positive else types_pb2.POINT_LABEL_NEGATIVE
        message.points.add(x=point.x, y=point.y, label=label)
    if prompt.box is not None:
        message.box.CopyFrom(_box_to_proto(prompt.box))
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
    check_contradiction(points, field=field)
    box = None
    if message.HasField("box"):
        box = _box_from_proto(message.box)
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


def check_contradiction(points: Sequence[Point], *, field: str) -> None:
    """Raises InvalidPrompt where one place is said to belong to the object and not to belong to it."""
    said: dict[tuple[float, float], bool] = {}
    for index, point in enumerate(points):
        if said.setdefault((point.x, point.y), point.positive) is not point.positive:
            raise InvalidPrompt(
                f"({point.x:g}, {point.y:g}) is both positive and negative", field=f"{field}.points[{index}]"
            )


def _check_coordinate(value: float, limit: int, field: str) -> None:
    if not math.isfinite(value):
        raise InvalidPrompt(f"a coordinate must be finite, got {value}", field=field)
    if not 0 <= value <= limit:
        raise InvalidPrompt(f"{value:g} lies outside the frame (0 to {limit})", field=field)


def mask_to_proto(mask: BinaryMask | LowResLogits) -> types_pb2.Mask:
    """A mask as it is sent."""
    match mask:
        case RleMask(height, width, counts):
            return types_pb2.Mask(rle=types_pb2.RleMask(height=height, width=width, counts=counts))
        case PngMask(height, width, data):
            return types_pb2.Mask(png=types_pb2.PngMask(height=height, width=width, data=data))
        case PackedMask(height, width, bits):
            packed = types_pb2.PackedMask(height=height, width=width, bits=bits)
            return types_pb2.Mask(packed_bits=packed)
        case LowResLogits(values):
            values = np.ascontiguousarray(values, dtype="<f4")
            height, width = values.shape
            logits = types_pb2.LowResLogits(height=height, width=width, values=values.tobytes())
            return types_pb2.Mask(low_res_logits=logits)


def mask_from_proto(message: types_pb2.Mask, *, field: str = "mask") -> BinaryMask | LowResLogits:
    """Raises InvalidPrompt where the mask is empty, or its bytes do not fill its size."""
    form = message.WhichOneof("form")
    if form is None:
        raise InvalidPrompt("a mask must not be empty", field=field)
    field = f"{field}.{form}"
    given = getattr(message, form)
    if not given.height or not given.width:
        raise InvalidPrompt("a mask must not be empty", field=field)
    if form == "low_res_logits":
        if len(given.values) != 4 * given.height * given.width:
            raise InvalidPrompt(
                f"{len(given.values)} bytes are not {given.height} x {given.width} float32",
                field=f"{field}.values",
            )
        values = np.frombuffer(given.values, dtype="<f4").reshape(given.height, given.width)
        if not np.isfinite(values).all():
            raise InvalidPrompt("logits must be finite", field=f"{field}.values")
        return LowResLogits(values)
    name, make = _BINARY_FORMS[form]
    data = getattr(given, name)
    if not data:
        raise InvalidPrompt("a mask must not be empty", field=f"{field}.{name}")
    return make(given.height, given.width, data)


def mask_options_from_proto(message: types_pb2.MaskOptions, *, field: str = "mask_options") -> MaskOptions:
    """Unspecified means COCO RLE in the size of the image.

    Raises InvalidRequest for an unknown number, and for logits in the size of the image.
    """
    formats = {number: value for value, number in _MASK_FORMATS.items()}
    spaces = {number: value for value, number in _MASK_SPACES.items()}
    if message.format and message.format not in formats:
        raise InvalidRequest(f"unknown mask format {message.format}", field=f"{field}.format")
    if message.space and message.space not in spaces:
        raise InvalidRequest(f"unknown mask space {message.space}", field=f"{field}.space")
    options = MaskOptions(
        formats.get(message.format, MaskFormat.COCO_RLE),
        spaces.get(message.space),
        message.non_overlapping,
    )
    if options.format is MaskFormat.LOW_RES_LOGITS and options.space is MaskSpace.IMAGE:
        raise InvalidRequest("logits are not upsampled: ask for the model's space", field=f"{field}.space")
    return options


def mask_options_to_proto(options: MaskOptions) -> types_pb2.MaskOptions:
    """The form of masks as it is sent."""
    return types_pb2.MaskOptions(
        format=_MASK_FORMATS[options.format],
        space=types_pb2.MASK_SPACE_UNSPECIFIED if options.space is None else _MASK_SPACES[options.space],
        non_overlapping=options.non_overlapping,
    )


def object_mask_to_proto(mask: ObjectMask) -> types_pb2.ObjectMask:
    """One object on one frame as it is sent."""
    return types_pb2.ObjectMask(
        obj_id=mask.obj_id,
        mask=mask_to_proto(mask.mask),
        predicted_iou=mask.predicted_iou,
        object_score_logit=mask.object_score_logit,
        box=None if mask.box is None else _box_to_proto(mask.box),
    )


def object_mask_from_proto(message: types_pb2.ObjectMask) -> ObjectMask:
    """One object on one frame as it came."""
    return ObjectMask(
        obj_id=message.obj_id,
        mask=mask_from_proto(message.mask),
        predicted_iou=message.predicted_iou,
        object_score_logit=message.object_score_logit,
        box=_box_from_proto(message.box) if message.HasField("box") else None,
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
        stage_seconds=stage_seconds_from_proto(message.stage_times),
    )


def stage_times_to_proto(seconds: Mapping[str, float]) -> list[types_pb2.StageTime]:
    """How long stages worked, by name, as it is sent."""
    times = []
    for stage, duration in seconds.items():
        time = types_pb2.StageTime(stage=stage)
        time.duration.FromNanoseconds(round(duration * 1e9))
        times.append(time)
    return times


def stage_seconds_from_proto(messages: Sequence[types_pb2.StageTime]) -> dict[str, float]:
    """How long stages worked, by name, as it came."""
    return {m.stage: m.duration.ToNanoseconds() / 1e9 for m in messages}


def _box_to_proto(box: Box) -> types_pb2.Box:
    return types_pb2.Box(x0=box.x0, y0=box.y0, x1=box.x1, y1=box.y1)


def _box_from_proto(message: types_pb2.Box) -> Box:
    return Box(message.x0, message.y0, message.x1, message.y1)


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
    message = types_pb2.Image()
    fill_image(message, image)
    return message


def fill_image(message: types_pb2.Image, image: Image) -> None:
    """Put an image into a message where that stands: a message that is put into another is copied."""
    if isinstance(image, EncodedImage):
        message.encoded = image.data
    else:
        message.raw.height, message.raw.width, _ = image.pixels.shape
        message.raw.rgb = image.pixels.tobytes()


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
