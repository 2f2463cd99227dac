"""One step of tracking: the objects of a session on one frame, and their rows in a batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from maskmesh import telemetry
from maskmesh.masks import MaskOptions
from maskmesh.nn.image_features import ImageEmbedding, ImageFeatures
from maskmesh.telemetry import StageRecorder
from maskmesh.types import ObjectMask
from tracker_svc.following.following_step import Following
from tracker_svc.memory.memory_bank import Selection
from tracker_svc.memory.tracked_object import TrackedObject
from tracker_svc.model.tracking_model import TrackingModel


@dataclass(slots=True, eq=False)
class Frame:
    """A frame's embedding, the size of its image in pixels, and what is computed from the embedding once.

    ``tracker_features`` are computed when a stage needs them; the embeddings of SAM 2.1 are these features.
    """

    embedding: ImageEmbedding
    width: int
    height: int
    tracker_features: ImageFeatures | None = None

    def __post_init__(self) -> None:
        if isinstance(self.embedding, ImageFeatures):
            self.tracker_features = self.embedding

    @property
    def features(self) -> ImageFeatures:
        """The features of the tracking stages, which must be computed."""
        assert self.tracker_features is not None, "prepare_features computes them"
        return self.tracker_features

    @property
    def num_bytes(self) -> int:
        """Size of the embedding and of the features, also if these are not computed yet."""
        num_bytes = sum(tensor.nbytes for tensor in self.embedding)
        # The features of SAM 3 are as large as the trunk's map.
        return num_bytes if isinstance(self.embedding, ImageFeatures) else 2 * num_bytes


@torch.inference_mode()
def prepare_features(
    model: TrackingModel, frames: Sequence[Frame], recorders: Sequence[StageRecorder]
) -> None:
    """Compute the features of frames that do not have them yet; there is a recorder for each frame."""
    for frame, recorder in zip(frames, recorders, strict=True):
        if frame.tracker_features is None:
            with recorder.stage(telemetry.TRACKER_NECK):
                frame.tracker_features = model.frame_features(frame.embedding)


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """The objects of one session, to be tracked on one frame."""

    objects: Sequence[TrackedObject]
    frame_index: int
    frame: Frame
    recorder: StageRecorder
    reverse: bool = False
    following: Following | None = None
    """The concepts of the session that find objects on every frame; None if it has none."""

    @property
    def weight(self) -> int:
        """Its rows in batches: objects, and concepts that are searched."""
        concepts = () if self.following is None else self.following.concepts
        return max(1, len(self.objects) + sum(concept.is_due(self.frame_index) for concept in concepts))

    @property
    def remaining(self) -> list[TrackedObject]:
        """Its objects without those that leave on the frame."""
        gone = () if self.following is None else self.following.gone
        return [obj for obj in self.objects if obj.obj_id not in gone]

    @property
    def all_objects(self) -> list[TrackedObject]:
        """The objects after the frame: those that remain, and those that concepts found."""
        return self.remaining + ([] if self.following is None else self.following.found)

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
    held_back: list[int]
    """Objects in sight whose masks are withheld."""


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
