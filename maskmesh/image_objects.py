"""Objects that are found on an image without prompts."""

from collections.abc import Sequence
from dataclasses import dataclass

from maskmesh.masks import BinaryMask, LowResLogits
from maskmesh.types import Box


@dataclass(frozen=True, slots=True)
class FoundMask:
    """One object that was found on an image without a prompt."""

    mask: BinaryMask | LowResLogits
    box: Box
    predicted_iou: float
    stability: float
    """The area of the mask at a logit of 1 divided by that at -1, 0 to 1."""
    point: tuple[float, float]
    """The point that found it, in pixels of the image."""
    area: int
    """Its number of pixels in the image."""


@dataclass(frozen=True, slots=True)
class ImageObjects:
    """All objects that were found on an image, the largest first."""

    masks: Sequence[FoundMask]
    width: int
    height: int
    trace_id: str = ""
