"""Points that are followed through a video."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from maskmesh.types import ModelInfo


@dataclass(frozen=True, slots=True)
class PointQuery:
    """A point where it is chosen, in pixels of its frame; the centre of the first pixel is at 0.5."""

    point_id: int
    frame_index: int
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class PointGrid:
    """The centres of equal parts of a frame, or of the box of an object's mask, those inside the mask only.

    Points are numbered from ``first_point_id`` in row order, without gaps.
    """

    rows: int
    columns: int
    frame_index: int = 0
    obj_id: int | None = None
    first_point_id: int = 1


@dataclass(frozen=True, slots=True)
class TrackedPoint:
    """A point on one frame, in pixels; it may lie outside of the frame."""

    x: float
    y: float
    visible: bool
    confidence: float
    """The probability that it is in sight and near the position, 0 to 1."""


@dataclass(frozen=True, slots=True)
class FramePoints:
    """The points on one frame, by their numbers."""

    frame_index: int
    points: Mapping[int, TrackedPoint]
    trace_id: str = ""
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    time: float | None = None
    """Time of the frame since the first one, in seconds; None for images."""
    repeats_previous: bool = False
    model: ModelInfo | None = None
    """The model that follows the points; only on the first frame of a call."""
    resume_token: str = ""
