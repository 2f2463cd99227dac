"""Budgets of windows, and the record of one window."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

BudgetStatus: TypeAlias = Literal["OK", "LAG"]

MIN_FRAMES_PER_SECOND = 1 / 86_400
MAX_FRAMES_PER_SECOND = 1000.0
MAX_WINDOW = 4096


@dataclass(frozen=True, slots=True)
class Budget:
    """The time that a run may take for its frames, counted for windows of consecutive results.

    Window ``n`` has ``window_length`` results from number ``n * stride`` on.  Windows that overlap share
    work: only the results that are not in the previous window count.  Raises ValueError for values out of
    range; its text begins with the name of the field.
    """

    frames_per_second: float = 0.0
    """Target frame rate; gives a window one frame interval for each of its new results.  0 means none."""
    per_window: float | None = None
    """Seconds of each window, instead of what follows from ``frames_per_second``."""
    window_length: int = 1
    """Number of results of a window."""
    window_stride: int = 0
    """Results from the start of one window to the start of the next; 0 means ``window_length``."""

    def __post_init__(self) -> None:
        if self.frames_per_second and not (
            MIN_FRAMES_PER_SECOND <= self.frames_per_second <= MAX_FRAMES_PER_SECOND
        ):
            raise ValueError(
                f"frames_per_second must be 0, or {MIN_FRAMES_PER_SECOND:.6f} (one frame a day) to "
                f"{MAX_FRAMES_PER_SECOND:.0f}"
            )
        if self.per_window is not None and not 0 < self.per_window <= 86_400:
            raise ValueError("per_window must be positive, and at most a day")
        if not 1 <= self.window_length <= MAX_WINDOW:
            raise ValueError(f"window_length must be 1 to {MAX_WINDOW}")
        if not 0 <= self.window_stride <= MAX_WINDOW:
            raise ValueError(f"window_stride must be 0 to {MAX_WINDOW}")

    @property
    def stride(self) -> int:
        """Results from the start of one window to the start of the next."""
        return self.window_stride or self.window_length

    def seconds(self, new_frames: int) -> float | None:
        """The budget of a window with so many new results; None without a budget."""
        if self.per_window is not None:
            return self.per_window
        return new_frames / self.frames_per_second if self.frames_per_second else None


NO_BUDGET = Budget()


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowRecord:
    """The timing of one window; times are in seconds."""

    window: int
    """Counts the windows of a run from 0."""
    first_sequence: int
    """Number of the first frame of the window."""
    last_sequence: int
    """Number of its last frame."""
    new_frames: int
    """Its results that are not in the previous window."""
    total: float
    """Work for the new results: for each the time from its receipt, or from the previous result if that is
    later, to its own result."""
    budget: float | None
    latency: float
    """From the receipt of the last frame to its result."""
    time: float = 0.0
    """When the last result was delivered, since the receipt of the first frame of the run."""
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    """Stages, summed over the new results.  Stages of different frames run at the same time."""
    gated_frames: int = 0
    """New results that the motion gate gave."""

    @property
    def slack(self) -> float | None:
        """The budget minus the total; negative if the window lags, None without a budget."""
        return None if self.budget is None else self.budget - self.total

    @property
    def status(self) -> BudgetStatus | None:
        """Whether the budget was kept; None without a budget."""
        if self.budget is None:
            return None
        return "OK" if self.total <= self.budget else "LAG"

    def to_json(self) -> dict[str, Any]:
        """The record as one line of ``windows.jsonl``."""
        content: dict[str, Any] = {
            "win": self.window,
            "time_s": round(self.time, 6),
            "first_frame": self.first_sequence,
            "last_frame": self.last_sequence,
            "new_frames": self.new_frames,
        }
        content |= {f"t_{stage}_s": round(seconds, 6) for stage, seconds in self.stage_seconds.items()}
        content["t_total_s"] = round(self.total, 6)
        if self.budget is not None and self.slack is not None:
            content |= {
                "budget_s": round(self.budget, 6),
                "slack_s": round(self.slack, 6),
                "status": self.status,
            }
        content["latency_s"] = round(self.latency, 6)
        if self.gated_frames:
            content["gated_frames"] = self.gated_frames
        return content
