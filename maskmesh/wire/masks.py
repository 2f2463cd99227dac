"""Conversion of masks, mask options and frame results to messages and back."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from maskmesh.errors import InvalidPrompt, InvalidRequest
from maskmesh.masks import (
    BinaryMask,
    LowResLogits,
    MaskFormat,
    MaskOptions,
    MaskSpace,
    PackedMask,
    PngMask,
    PolygonMask,
    RleMask,
)
from maskmesh.types import FrameMasks, ObjectMask
from maskmesh.v1 import points_pb2, types_pb2
from maskmesh.wire.values import box_from_proto, box_to_proto

# Pixels by which polygons may differ from masks.
MAX_TOLERANCE = 1000.0

# Points of all polygons of a mask in a request: filling more would keep others waiting.
MAX_POLYGON_POINTS = 20_000

_BINARY_FORMS: Mapping[str, tuple[str, Callable[[int, int, bytes], BinaryMask]]] = {
    "rle": ("counts", RleMask),
    "png": ("data", PngMask),
    "packed_bits": ("bits", PackedMask),
}
_MASK_FORMATS = {
    MaskFormat.COCO_RLE: types_pb2.MASK_FORMAT_COCO_RLE,
    MaskFormat.LOW_RES_LOGITS: types_pb2.MASK_FORMAT_LOW_RES_LOGITS,
    MaskFormat.PNG: types_pb2.MASK_FORMAT_PNG,
    MaskFormat.PACKED_BITS: types_pb2.MASK_FORMAT_PACKED_BITS,
    MaskFormat.POLYGONS: types_pb2.MASK_FORMAT_POLYGONS,
}
_MASK_SPACES = {
    MaskSpace.IMAGE: types_pb2.MASK_SPACE_IMAGE,
    MaskSpace.MODEL: types_pb2.MASK_SPACE_MODEL,
}


def mask_to_proto(mask: BinaryMask | LowResLogits) -> types_pb2.Mask:
    """Convert a mask to a message."""
    match mask:
        case RleMask(height, width, counts):
            return types_pb2.Mask(rle=types_pb2.RleMask(height=height, width=width, counts=counts))
        case PngMask(height, width, data):
            return types_pb2.Mask(png=types_pb2.PngMask(height=height, width=width, data=data))
        case PackedMask(height, width, bits):
            packed = types_pb2.PackedMask(height=height, width=width, bits=bits)
            return types_pb2.Mask(packed_bits=packed)
        case PolygonMask(height, width, polygons):
            message = types_pb2.PolygonMask(height=height, width=width)
            for polygon in polygons:
                rings = [types_pb2.Ring(xy=ring.reshape(-1).tolist()) for ring in polygon]
                message.polygons.append(types_pb2.Polygon(rings=rings))
            return types_pb2.Mask(polygons=message)
        case LowResLogits(values):
            values = np.ascontiguousarray(values, dtype="<f4")
            height, width = values.shape
            logits = types_pb2.LowResLogits(height=height, width=width, values=values.tobytes())
            return types_pb2.Mask(low_res_logits=logits)


def mask_from_proto(
    message: types_pb2.Mask, *, field: str = "mask", max_points: int | None = None
) -> BinaryMask | LowResLogits:
    """Convert a message to a mask.

    Raises InvalidPrompt if the mask is empty, if the number of its bytes does not match its size, or if its
    polygons have more than ``max_points`` points.
    """
    form = message.WhichOneof("form")
    if form is None:
        raise InvalidPrompt("a mask must not be empty", field=field)
    field = f"{field}.{form}"
    encoded = getattr(message, form)
    if not encoded.height or not encoded.width:
        raise InvalidPrompt("a mask must not be empty", field=field)
    if form == "low_res_logits":
        if len(encoded.values) != 4 * encoded.height * encoded.width:
            raise InvalidPrompt(
                f"{len(encoded.values)} bytes are not {encoded.height} x {encoded.width} float32",
                field=f"{field}.values",
            )
        values = np.frombuffer(encoded.values, dtype="<f4").reshape(encoded.height, encoded.width)
        if not np.isfinite(values).all():
            raise InvalidPrompt("logits must be finite", field=f"{field}.values")
        return LowResLogits(values)
    if form == "polygons":
        return _polygons(encoded, field, max_points)
    name, make = _BINARY_FORMS[form]
    data = getattr(encoded, name)
    if not data:
        raise InvalidPrompt("a mask must not be empty", field=f"{field}.{name}")
    return make(encoded.height, encoded.width, data)


def _polygons(message: types_pb2.PolygonMask, field: str, max_points: int | None) -> PolygonMask:
    count = sum(len(ring.xy) // 2 for polygon in message.polygons for ring in polygon.rings)
    if max_points is not None and count > max_points:
        raise InvalidPrompt(f"{count} points, and a mask has at most {max_points}", field=f"{field}.polygons")
    polygons = []
    for p, polygon in enumerate(message.polygons):
        rings = []
        for r, ring in enumerate(polygon.rings):
            where = f"{field}.polygons[{p}].rings[{r}].xy"
            if len(ring.xy) < 6 or len(ring.xy) % 2:
                raise InvalidPrompt("a ring has three points or more, x and y in turn", field=where)
            points = np.array(ring.xy, dtype=np.float32).reshape(-1, 2)
            if not np.isfinite(points).all():
                raise InvalidPrompt("coordinates must be finite", field=where)
            rings.append(points)
        polygons.append(rings)
    return PolygonMask(message.height, message.width, polygons)


def mask_options_from_proto(message: types_pb2.MaskOptions, *, field: str = "mask_options") -> MaskOptions:
    """Convert a message to mask options; unspecified means COCO RLE in the size of the image.

    Raises InvalidRequest for an unknown enum value, and for logits in the size of the image.
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
        message.fill_holes_area,
        message.remove_specks_area,
        message.polygon_tolerance,
    )
    if options.format is MaskFormat.LOW_RES_LOGITS and options.space is MaskSpace.IMAGE:
        raise InvalidRequest("logits are not upsampled: use the model's space", field=f"{field}.space")
    for name in ("fill_holes_area", "remove_specks_area"):
        if options.format is MaskFormat.LOW_RES_LOGITS and getattr(options, name):
            raise InvalidRequest("logits are returned as they are", field=f"{field}.{name}")
    if not 0 <= options.polygon_tolerance <= MAX_TOLERANCE:
        raise InvalidRequest(f"it must be 0 to {MAX_TOLERANCE:.0f}", field=f"{field}.polygon_tolerance")
    return options


def mask_options_to_proto(options: MaskOptions) -> types_pb2.MaskOptions:
    """Convert mask options to a message."""
    return types_pb2.MaskOptions(
        format=_MASK_FORMATS[options.format],
        space=types_pb2.MASK_SPACE_UNSPECIFIED if options.space is None else _MASK_SPACES[options.space],
        non_overlapping=options.non_overlapping,
        fill_holes_area=options.fill_holes_area,
        remove_specks_area=options.remove_specks_area,
        polygon_tolerance=options.polygon_tolerance,
    )


def object_mask_to_proto(mask: ObjectMask) -> types_pb2.ObjectMask:
    """Convert the mask of one object on one frame to a message."""
    return types_pb2.ObjectMask(
        obj_id=mask.obj_id,
        mask=mask_to_proto(mask.mask),
        predicted_iou=mask.predicted_iou,
        object_score_logit=mask.object_score_logit,
        box=None if mask.box is None else box_to_proto(mask.box),
        concept_id=mask.concept_id,
        concept_score=mask.concept_score,
    )


def object_mask_from_proto(message: types_pb2.ObjectMask) -> ObjectMask:
    """Convert a message to the mask of one object on one frame."""
    return ObjectMask(
        obj_id=message.obj_id,
        mask=mask_from_proto(message.mask),
        predicted_iou=message.predicted_iou,
        object_score_logit=message.object_score_logit,
        box=box_from_proto(message.box) if message.HasField("box") else None,
        concept_id=message.concept_id if message.HasField("concept_id") else None,
        concept_score=message.concept_score,
    )


def frame_masks_from_proto(message: types_pb2.FrameMasks) -> FrameMasks:
    """Convert a message to the masks of all objects on one frame."""
    return FrameMasks(
        frame_index=message.frame_index,
        objects={o.obj_id: object_mask_from_proto(o) for o in message.objects},
        width=message.width,
        height=message.height,
        conditioning=message.conditioning,
        trace_id=message.trace_id,
        stage_seconds=stage_seconds_from_proto(message.stage_times),
        time=message.time.ToNanoseconds() / 1e9 if message.HasField("time") else None,
        repeats_previous=message.repeats_previous,
        new_obj_ids=tuple(message.new_obj_ids),
        gone_obj_ids=tuple(message.gone_obj_ids),
        held_back_obj_ids=tuple(message.held_back_obj_ids),
    )


def fill_frame_time(
    message: types_pb2.FrameMasks | points_pb2.FramePoints, time: float | None, *, repeats_previous: bool
) -> None:
    """Set what the owner of the frames knows: the time in seconds, and whether the picture is missing."""
    if time is not None:
        message.time.FromNanoseconds(round(time * 1e9))
    message.repeats_previous = repeats_previous


def stage_times_to_proto(seconds: Mapping[str, float]) -> list[types_pb2.StageTime]:
    """Convert seconds by stage name to messages."""
    times = []
    for stage, duration in seconds.items():
        time = types_pb2.StageTime(stage=stage)
        time.duration.FromNanoseconds(round(duration * 1e9))
        times.append(time)
    return times


def stage_seconds_from_proto(messages: Sequence[types_pb2.StageTime]) -> dict[str, float]:
    """Convert messages to seconds by stage name."""
    return {m.stage: m.duration.ToNanoseconds() / 1e9 for m in messages}
