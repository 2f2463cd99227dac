"""Conversion of the options and results of masks of a whole image to messages and back."""

from typing import NamedTuple

from maskmesh.errors import InvalidRequest
from maskmesh.image_objects import FoundMask
from maskmesh.v1 import types_pb2
from maskmesh.wire.masks import mask_from_proto
from maskmesh.wire.values import box_from_proto

DEFAULT_POINTS_PER_SIDE = 32
MAX_POINTS_PER_SIDE = 64
MAX_CROP_LAYERS = 3


class GridValues(NamedTuple):
    """The options of a grid, with their defaults."""

    points_per_side: int
    min_predicted_iou: float
    min_stability: float
    max_box_iou: float
    max_masks: int
    min_area: int


def grid_options_from_proto(message: types_pb2.EverythingOptions, *, field: str = "options") -> GridValues:
    """Convert a message to the options of a grid.  Raises InvalidRequest for values out of range."""
    if message.points_per_side > MAX_POINTS_PER_SIDE:
        raise InvalidRequest(f"at most {MAX_POINTS_PER_SIDE} are allowed", field=f"{field}.points_per_side")
    if message.crop_layers > MAX_CROP_LAYERS:
        raise InvalidRequest(f"at most {MAX_CROP_LAYERS} are allowed", field=f"{field}.crop_layers")
    shares = {"min_predicted_iou": 0.8, "min_stability": 0.95, "max_box_iou": 0.7}
    for name in shares:
        if message.HasField(name):
            shares[name] = getattr(message, name)
            if not 0 <= shares[name] <= 1:
                raise InvalidRequest("it must be 0 to 1", field=f"{field}.{name}")
    return GridValues(
        message.points_per_side or DEFAULT_POINTS_PER_SIDE,
        shares["min_predicted_iou"],
        shares["min_stability"],
        shares["max_box_iou"],
        message.max_masks,
        message.min_area,
    )


def found_mask_from_proto(message: types_pb2.FoundMask) -> FoundMask:
    """Convert a message to an object of an image."""
    return FoundMask(
        mask=mask_from_proto(message.mask),
        box=box_from_proto(message.box),
        predicted_iou=message.predicted_iou,
        stability=message.stability,
        point=(message.x, message.y),
        area=message.area,
    )
