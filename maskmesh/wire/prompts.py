"""Conversion of prompts to messages and back."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from maskmesh.errors import InvalidPrompt
from maskmesh.types import Box, Point, Prompt
from maskmesh.v1 import types_pb2
from maskmesh.wire.masks import MAX_POLYGON_POINTS, mask_from_proto, mask_to_proto
from maskmesh.wire.values import box_to_proto

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


def prompt_from_proto(
    message: types_pb2.Prompt, *, width: int, height: int, field: str, pixel_aspect: float = 1.0
) -> Prompt:
    """Convert a message to a prompt, checked against the size of its frame.

    ``field`` is the path of the prompt in the request, ``pixel_aspect`` the width of a pixel divided by its
    height.  Raises InvalidPrompt for the first invalid field.
    """
    horizontal, vertical = _Axis(width, pixel_aspect), _Axis(height, pixel_aspect)
    if len(message.points) > MAX_POINTS:
        raise InvalidPrompt(f"at most {MAX_POINTS} points are allowed", field=f"{field}.points")
    points = []
    for index, point in enumerate(message.points):
        name = f"{field}.points[{index}]"
        x = horizontal.check(point.x, f"{name}.x")
        y = vertical.check(point.y, f"{name}.y")
        if point.label not in _LABELS:
            raise InvalidPrompt("a point's label must be set", field=f"{name}.label")
        points.append(Point(x, y, _LABELS[point.label]))
    check_contradiction(points, field=field)
    box = None
    if message.HasField("box"):
        box = checked_box(
            message.box, width=width, height=height, field=f"{field}.box", pixel_aspect=pixel_aspect
        )
    mask = None
    if message.HasField("mask"):
        mask = mask_from_proto(message.mask, field=f"{field}.mask", max_points=MAX_POLYGON_POINTS)
    if not points and box is None and mask is None:
        raise InvalidPrompt("a prompt needs points, a box or a mask", field=field)
    return Prompt(points, box, mask)


def checked_box(
    message: types_pb2.Box, *, width: int, height: int, field: str, pixel_aspect: float = 1.0
) -> Box:
    """Convert a message to a box, checked against the size of its frame.  Raises InvalidPrompt."""
    horizontal, vertical = _Axis(width, pixel_aspect), _Axis(height, pixel_aspect)
    box = Box(
        horizontal.check(message.x0, f"{field}.x0"),
        vertical.check(message.y0, f"{field}.y0"),
        horizontal.check(message.x1, f"{field}.x1"),
        vertical.check(message.y1, f"{field}.y1"),
    )
    if box.x0 >= box.x1 or box.y0 >= box.y1:
        raise InvalidPrompt("a box needs x0 < x1 and y0 < y1", field=field)
    return box


def check_contradiction(points: Sequence[Point], *, field: str) -> None:
    """Raises InvalidPrompt if two points have the same coordinates and different labels."""
    labels: dict[tuple[float, float], bool] = {}
    for index, point in enumerate(points):
        if labels.setdefault((point.x, point.y), point.positive) is not point.positive:
            raise InvalidPrompt(
                f"({point.x:g}, {point.y:g}) is both positive and negative", field=f"{field}.points[{index}]"
            )


class _Axis(NamedTuple):
    """One side of a frame, in pixels."""

    limit: int
    pixel_aspect: float

    def check(self, value: float, field: str) -> float:
        """A coordinate; one up to a pixel outside, as rounding leaves it, is moved to the edge."""
        if not math.isfinite(value):
            raise InvalidPrompt(f"a coordinate must be finite, got {value}", field=field)
        if not -1 <= value <= self.limit + 1:
            message = f"{_in_full(value)} lies outside the frame (0 to {self.limit})"
            if self.pixel_aspect != 1:
                message += f" of stored pixels, which are shown {self.pixel_aspect:.3g} times as wide as high"
            raise InvalidPrompt(message, field=field)
        return min(max(value, 0.0), float(self.limit))


def _in_full(value: float) -> str:
    """A number with every digit that tells it from the limit."""
    return str(np.float32(value)) if abs(value) < 1e6 else f"{value:.0f}"
