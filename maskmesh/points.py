"""Points that are followed through a video, and their motion in windows of frames."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

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


MotionStatus: TypeAlias = Literal["moving", "still", "unmoved", "other_points"]
"""A window with motion, one on whose frames nothing changes, one in which the points do not move, or one with
another number of points than the tokenizer reads, which has no codes."""


class MotionThreshold(NamedTuple):
    """A gate that leaves out windows in which both values lie below; zeros leave out none."""

    mean: float
    """The mean: of the absolute differences of consecutive frames in grey at 128 x 128, of 0 to 1, or of the
    lengths of the velocities."""
    active: float
    """The share of pixels, or of velocities, above four times the value of ``mean``."""


STILL_GATE = MotionThreshold(0.005, 0.05)
MOTION_GATE = MotionThreshold(0.02, 0.025)


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionOptions:
    """Windows of frames, and what is computed of the motion in them."""

    window_length: int = 16
    """Frames of a window."""
    window_stride: int = 4
    """Frames from the start of one window to the start of the next."""
    frames_per_second: float = 0.0
    """Rate at which frames are used; 0 means all."""
    velocity_scale: float = 120.0
    """Divides velocities, which are in pixels of the frame per used frame."""
    still_gate: MotionThreshold = STILL_GATE
    """Leaves out windows on whose frames nothing changes."""
    motion_gate: MotionThreshold = MOTION_GATE
    """Leaves out windows in which the points do not move."""
    tokens: bool = False
    """Whether to return the codes of the tracker's motion tokenizer."""
    energy_threshold: float = 0.0
    """The energy at which an action begins; 0 finds no boundaries."""


@dataclass(frozen=True, slots=True)
class MotionBoundary:
    """The start or the end of an action: the last frame of the window in which the energy crossed."""

    kind: Literal["start", "end"]
    frame_index: int
    time: float | None
    """In seconds since the first frame; None for images."""
    code: int | None
    """The last code of that window; None without a tokenizer."""


@dataclass(frozen=True, slots=True)
class MotionWindow:
    """The motion in one window."""

    window: int
    """Counts the windows from 0; from 0 again where a call was continued after its connection broke: windows,
    energy and actions then begin anew."""
    first_frame_index: int
    last_frame_index: int
    status: MotionStatus
    points: int
    """Number of points that are followed on all frames of the window."""
    mean_velocity: float
    """Mean length of the velocities of points in sight, divided by the scale."""
    energy: float
    """Smoothed energy: the mean distance of the tokenizer's consecutive quantised latents, or the mean
    velocity without a tokenizer."""
    codes: Sequence[int]
    """One for each interval between two frames; none without a tokenizer."""
    boundaries: Sequence[MotionBoundary]
    """Those that this window completes."""


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
    placed: Sequence[PointQuery] = ()
    """All points, only on the first frame, and only if a grid lies inside an object: a call that is resumed
    in another process needs them instead of the grid, because the object's mask may change."""
    resume_token: str = ""
    motion_windows: Sequence[MotionWindow] = ()
    """The windows that end with this frame, if motion was requested."""
