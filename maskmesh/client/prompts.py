"""Prompts of callers as messages, with a warning for coordinates that are probably fractions."""

import operator
import warnings
from collections.abc import Sequence
from typing import SupportsIndex

from maskmesh import wire
from maskmesh.types import Box, MaskLike, Point, Prompt
from maskmesh.v1 import types_pb2


class CoordinateWarning(UserWarning):
    """All coordinates of a prompt are between 0 and 1, although pixels are meant."""


def integer(name: str, value: SupportsIndex) -> int:
    """An integer of a caller.  Raises ValueError that names the argument."""
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{name} is an integer, got {value!r}") from None


def prompt_message(
    *,
    points: Sequence[Point | Sequence[float]] = (),
    box: Box | Sequence[float] | None = None,
    mask: MaskLike | None = None,
) -> types_pb2.Prompt:
    """A message from a caller's values.  Raises ValueError for values of another form."""
    return checked_message(Prompt.of(points=points, box=box, mask=mask))


def checked_message(prompt: Prompt) -> types_pb2.Prompt:
    """The message of a prompt; warns of fractions."""
    values = [value for point in prompt.points for value in (point.x, point.y)]
    if prompt.box is not None:
        values += [prompt.box.x0, prompt.box.y0, prompt.box.x1, prompt.box.y1]
    if all(0 <= value <= 1 for value in values) and any(value % 1 for value in values):
        warnings.warn(
            f"the coordinates {', '.join(f'{value:g}' for value in values)} are all between 0 and 1: "
            "coordinates are pixels, not fractions of the width and height",
            CoordinateWarning,
            stacklevel=4,
        )
    return wire.prompt_to_proto(prompt)
