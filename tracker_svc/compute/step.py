"""One step of tracking: the objects of a session on one frame, and their rows in a batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from maskmesh.masks import MaskOptions
from maskmesh.nn.image_features import ImageFeatures
from maskmesh.telemetry import StageRecorder
from maskmesh.types import ObjectMask
from tracker_svc.memory.memory_bank import Selection
from tracker_svc.memory.tracked_object import TrackedObject


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame's embedding, and the size of its image in pixels."""

    features: ImageFeatures
    width: int
    height: int


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """The objects of one session, to be tracked on one frame."""

    objects: Sequence[TrackedObject]
    frame_index: int
    frame: Frame
    recorder: StageRecorder
    reverse: bool = False

    @property
    def signatures(self) -> frozenset[tuple[int, int]]:
        """The signatures of its objects' selections; each needs a batch of its own."""
        return frozenset(
            obj.bank.select(self.frame_index, reverse=self.reverse).signature
            for obj in self.objects
            if self.frame_index not in obj.bank.conditioning
        )


class MaskedStep(NamedTuple):
    """A step, and the options of its masks."""

    step: Step
    options: MaskOptions


class Tracked(NamedTuple):
    """The result of a step."""

    masks: list[ObjectMask]
    conditioning: bool
    """Whether an object was prompted on the frame."""


class Row(NamedTuple):
    """One object in a batch: the index of its step, and the memories that condition it."""

    step_index: int
    obj: TrackedObject
    selection: Selection


class StackedFrames:
    """The frames of the steps that have rows in a batch, stacked."""

    def __init__(self, steps: Sequence[Step], step_indices: Sequence[int]) -> None:
        self._steps = steps
        self._positions = {index: n for n, index in enumerate(sorted(set(step_indices)))}
        self.features = ImageFeatures.stack([steps[index].frame.features for index in self._positions])

    def positions(self, step_indices: Sequence[int]) -> list[int]:
        """The position in the stack of each row's frame."""
        return [self._positions[index] for index in step_indices]

    def rows(self, step_indices: Sequence[int]) -> ImageFeatures:
        """The features of each row, or of the single frame that all rows share."""
        return self.features.rows(self.positions(step_indices))

    def recorders(self, step_indices: Sequence[int]) -> list[StageRecorder]:
        """The recorder of each step that has rows."""
        return [self._steps[index].recorder for index in sorted(set(step_indices))]
