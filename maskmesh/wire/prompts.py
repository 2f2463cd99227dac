"""Conversion of prompts to messages and back."""

import math
from collections.abc import Sequence

from maskmesh.errors import InvalidPrompt
from maskmesh.types import Point, Prompt
from maskmesh.v1 import types_pb2
from maskmesh.wire.boxes import box_from_proto, box_to_proto
from maskmesh.wire.masks import mask_from_proto, mask_to_proto

MAX_POINTS = 256
_LABELS = {types_pb2.POINT_LABEL_NEGATIVE: False, types_pb2.POINT_LABEL_POSITIVE: True}


def prompt_to_proto(prompt: Prompt) -> types_pb2.Prompt:
    """Convert a prompt to a message; the receiver checks it."""
    message = types_pb2.Prompt()
    for point in prompt.points:
        label = types_pb2.POINT_LABEL_POSITIVE if point.positive else types_pb2.POINT_LABEL_NEGATIVE
        message.points.add(x=point.x, y=point.y, label=label)
    if prompt.box is not None:
        message.box.CopyFrom(box_to_proto(prompt.box))
    if prompt.mask is not None:
        message.mask.CopyFrom(mask_to_proto(prompt.mask))
    return message


def prompt_from_proto(message: types_pb2.Prompt, *, width: int, height: int, field: str) -> Prompt:
    """Convert a message to a prompt, checked against the size of its frame.

    ``field`` is the path of the prompt in the request.  Raises InvalidPrompt for the first invalid field.
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
        box = box_from_proto(message.box)
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
    """Raises InvalidPrompt if two points have the same coordinates and different labels."""
    labels: dict[tuple[float, float], bool] = {}
    for index, point in enumerate(points):
        if labels.setdefault((point.x, point.y), point.positive) is not point.positive:
            raise InvalidPrompt(
                f"({point.x:g}, {point.y:g}) is both positive and negative", field=f"{field}.points[{index}]"
            )


def _check_coordinate(value: float, limit: int, field: str) -> None:
    if not math.isfinite(value):
        raise InvalidPrompt(f"a coordinate must be finite, got {value}", field=field)
    if not 0 <= value <= limit:
        raise InvalidPrompt(f"{value:g} lies outside the frame (0 to {limit})", field=field)
