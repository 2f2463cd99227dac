"""The points of one stream, by whatever model."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import NamedTuple, Self

from maskmesh.telemetry import StageRecorder
from tracker_svc.compute.step import Frame


class Query(NamedTuple):
    """A point where it was chosen, in pixels of its frame; the centre of the first pixel is at 0.5."""

    point_id: int
    x: float
    y: float


class TrackedPoint(NamedTuple):
    """A point on a later frame, in pixels of that frame."""

    point_id: int
    x: float
    y: float
    visible: bool
    confidence: float
    """The probability that the point is in sight and near the position, 0 to 1."""


class PointSet(ABC):
    """Points that are followed through consecutive frames.  Runs on the device's thread."""

    @abstractmethod
    def add(self, frame: Frame, queries: Sequence[Query], recorder: StageRecorder) -> None:
        """Add points that were chosen on a frame."""

    @abstractmethod
    def __len__(self) -> int:
        """The number of points."""

    @abstractmethod
    def join(self, others: Self) -> None:
        """Take over the points of another set that has followed the same last frame."""

    @abstractmethod
    def remove(self, point_ids: Collection[int]) -> None:
        """Remove points; numbers that there are not are ignored."""

    @abstractmethod
    def track(self, frames: Sequence[Frame], recorders: Sequence[StageRecorder]) -> list[list[TrackedPoint]]:
        """The points on the next frames, for each frame in the order in which they were added.

        There is a recorder for each frame.
        """


class PointModel(ABC):
    """Makes the sets of points of all streams."""

    memory_frames: int
    """Number of preceding frames on which a result can depend; 0 means all since the point was chosen."""
    frames_at_once: int
    """Number of frames that are tracked faster together than one after the other."""

    @abstractmethod
    def new_set(self) -> PointSet:
        """A set without points."""

    @abstractmethod
    def empty_frame(self) -> Frame:
        """A frame whose embedding is all zeros."""
