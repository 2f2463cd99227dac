"""Motion of points in windows of frames: gates, velocities, energy, and the boundaries of actions.

Source: LAPS (arXiv 2511.21428).
"""

import functools
import itertools
from collections import deque
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from maskmesh.masks import ByteArray

FloatArray: TypeAlias = NDArray[np.float32]

# The share of the old energy in the smoothed one.
SMOOTHING = 0.7

# The energy at which an action ends, as a share of that at which it begins.
OFF_SHARE = 0.95

# Consecutive windows above or below the threshold that begin or end an action, windows that are ignored after
# an end, and the longest action in seconds.
UP_WINDOWS = DOWN_WINDOWS = 2
COOLDOWN_WINDOWS = 1
MAX_SECONDS = 2.0

# A pixel, or a velocity, is active above so many times the mean of its gate.
ACTIVE_FACTOR = 4.0


class Threshold(NamedTuple):
    """A gate: values whose mean and active share lie below are left out."""

    mean: float
    active: float

    def is_below(self, values: NDArray[np.floating]) -> bool:
        """Whether a gate leaves out non-negative values."""
        active = np.mean(values > ACTIVE_FACTOR * self.mean) if values.size else 0.0
        mean = values.mean() if values.size else 0.0
        return bool(mean < self.mean and active < self.active)


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionSettings:
    """Checked options of a client."""

    length: int
    stride: int
    frames_per_second: float
    velocity_scale: float
    still_gate: Threshold
    motion_gate: Threshold
    tokens: bool
    energy_threshold: float


class UsedFrame(NamedTuple):
    """A frame of a window.

    ``numbers`` are those of its N points, ``points`` their x, y and visibility, [N, 3]; ``grey`` is a
    thumbnail.
    """

    frame_index: int
    time: float | None
    numbers: NDArray[np.int64]
    points: FloatArray
    grey: ByteArray | None


WindowStatus: TypeAlias = Literal["moving", "still", "unmoved"]


@dataclass(frozen=True, slots=True)
class MotionWindow:
    """A complete window; ``velocities`` are [length - 1, points, 2], 0 where a point is out of sight."""

    window: int
    first_frame_index: int
    last_frame_index: int
    last_time: float | None
    status: WindowStatus
    velocities: FloatArray
    mean_velocity: float


class Boundary(NamedTuple):
    """The start or the end of an action, at the last frame of a window."""

    kind: Literal["start", "end"]
    frame_index: int
    time: float | None
    code: int | None


@dataclass(slots=True)
class MotionWindows:
    """Collects frames into windows that overlap."""

    settings: MotionSettings
    _frames: deque[UsedFrame] = field(init=False)
    _num_used: int = 0
    _num_windows: int = 0
    _slot: int = -1
    """Number of the interval of the used rate in which the last used frame lies."""

    def __post_init__(self) -> None:
        self._frames = deque(maxlen=self.settings.length)

    def uses(self, time: float | None) -> bool:
        """Whether the next frame, at ``time`` in seconds, belongs to windows."""
        rate = self.settings.frames_per_second
        return not rate or time is None or int(time * rate + 1e-6) > self._slot

    def add(self, frame: UsedFrame) -> MotionWindow | None:
        """Add the next frame; returns the window that it completes."""
        if not self.uses(frame.time):
            return None
        if frame.time is not None and self.settings.frames_per_second:
            self._slot = int(frame.time * self.settings.frames_per_second + 1e-6)
        self._frames.append(frame)
        self._num_used += 1
        settings = self.settings
        if self._num_used < settings.length or (self._num_used - settings.length) % settings.stride:
            return None
        self._num_windows += 1
        return self._window()

    def _window(self) -> MotionWindow:
        frames = list(self._frames)
        velocities, in_sight = _velocities(frames, self.settings.velocity_scale)
        lengths = np.linalg.norm(velocities, axis=-1)[in_sight]
        status: WindowStatus = "moving"
        if _is_still(frames, self.settings.still_gate):
            status = "still"
        elif self.settings.motion_gate.is_below(lengths):
            status = "unmoved"
        return MotionWindow(
            self._num_windows - 1,
            frames[0].frame_index,
            frames[-1].frame_index,
            frames[-1].time,
            status,
            velocities,
            float(lengths.mean()) if lengths.size else 0.0,
        )


def _velocities(frames: list[UsedFrame], scale: float) -> tuple[FloatArray, NDArray[np.bool_]]:
    """The moves of the points that all frames have, [T - 1, N, 2], and whether they are in sight, [T - 1,
    N]."""
    common = functools.reduce(np.intersect1d, (frame.numbers for frame in frames))
    orders = [np.argsort(frame.numbers) for frame in frames]
    values = np.stack(
        [
            frame.points[order[np.searchsorted(frame.numbers, common, sorter=order)]]
            for frame, order in zip(frames, orders, strict=True)
        ]
    )
    visible = values[..., 2] > 0
    in_sight = visible[1:] & visible[:-1]
    moves = np.diff(values[..., :2], axis=0) / scale
    return np.where(in_sight[..., None], moves, 0).astype(np.float32), in_sight


def _is_still(frames: list[UsedFrame], gate: Threshold) -> bool:
    greys = [frame.grey for frame in frames if frame.grey is not None]
    if len(greys) < len(frames):
        return False
    differences = [
        np.abs(after.astype(np.float32) - before) / 255 for before, after in itertools.pairwise(greys)
    ]
    return gate.is_below(np.stack(differences))


@dataclass(slots=True)
class ActionBoundaries:
    """Smooths the energy of windows, and finds where actions begin and end, with hysteresis."""

    threshold: float
    energy: float = 0.0
    _is_active: bool = False
    _count: int = 0
    _cooldown: int = 0
    _start: float | None = None
    _first: Boundary | None = None
    """The first of the windows in succession that have crossed the threshold."""
    _has_energy: bool = False

    def add(self, window: MotionWindow, energy: float, code: int | None) -> list[Boundary]:
        """Add a window with its energy and last code; returns the boundaries that it completes."""
        self.energy = energy if not self._has_energy else SMOOTHING * self.energy + (1 - SMOOTHING) * energy
        self._has_energy = True
        if not self.threshold:
            return []
        if self._cooldown:
            self._cooldown -= 1
            return []
        kind: Literal["start", "end"] = "end" if self._is_active else "start"
        here = Boundary(kind, window.last_frame_index, window.last_time, code)
        if self._is_active:
            has_crossed = self.energy < OFF_SHARE * self.threshold
            if self._lasts_too_long(window.last_time):
                return [self._change(here)]
        else:
            has_crossed = self.energy >= self.threshold
        if not has_crossed:
            self._count, self._first = 0, None
            return []
        self._first = self._first or here
        self._count += 1
        needed = DOWN_WINDOWS if self._is_active else UP_WINDOWS
        return [self._change(self._first)] if self._count >= needed else []

    def _lasts_too_long(self, time: float | None) -> bool:
        return self._start is not None and time is not None and time - self._start >= MAX_SECONDS

    def _change(self, boundary: Boundary) -> Boundary:
        self._is_active = not self._is_active
        self._start = boundary.time if self._is_active else None
        self._cooldown = 0 if self._is_active else COOLDOWN_WINDOWS
        self._count, self._first = 0, None
        return boundary
