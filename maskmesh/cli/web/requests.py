"""Fields of the page's requests, checked."""

from collections.abc import Mapping
from typing import Any

from maskmesh.types import Point


class RequestError(ValueError):
    """A field of a request is missing or of another kind; the text names it."""


def integer_of(body: Mapping[str, Any], name: str) -> int:
    """An integer.  Raises RequestError."""
    value = body.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise RequestError(f"{name} must be an integer")
    return value


def points_of(body: Mapping[str, Any]) -> list[Point]:
    """Points as [x, y, positive], none if there is no such field.  Raises RequestError."""
    points = body.get("points", [])
    try:
        return [Point(float(x), float(y), bool(positive)) for x, y, positive in points]
    except (TypeError, ValueError) as error:
        raise RequestError("points are [x, y, positive]") from error


def box_of(body: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    """A box as [x0, y0, x1, y1]; None if there is no such field.  Raises RequestError."""
    if (box := body.get("box")) is None:
        return None
    try:
        x0, y0, x1, y1 = (float(value) for value in box)
    except (TypeError, ValueError) as error:
        raise RequestError("a box is [x0, y0, x1, y1]") from error
    return x0, y0, x1, y1
