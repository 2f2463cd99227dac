"""The state of one object on one frame."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class FrameState:
    """The state of one object on one frame.

    Pointer and memory are None if they were cleared or are not computed yet.
    """

    low_res_masks: Tensor  # [1, 4 E, 4 E] logits, float32
    predicted_iou: float
    object_score_logit: float
    object_pointer: Tensor | None  # [C]
    memory_features: Tensor | None = None  # [memory_dim, E, E], bfloat16
    concept_score: float = 0.0
    """The score of the latest detection of an object that a concept found."""

    @property
    def num_bytes(self) -> int:
        """Size of the tensors."""
        tensors = (self.low_res_masks, self.object_pointer, self.memory_features)
        return sum(t.nbytes for t in tensors if t is not None)

    @property
    def held(self) -> "Held":
        """Which optional parts the state has."""
        pointer, memory = self.object_pointer is not None, self.memory_features is not None
        return Held(pointer, memory, quality(self.predicted_iou, self.object_score_logit))


def quality(predicted_iou: float, object_score_logit: float) -> float:
    """How much a state is worth as a memory, 0 to 1: 0 if the object is out of sight.

    Source: Carion et al., "SAM 3: Segment Anything with Concepts" (2025).
    """
    probability = 1.0 / (1.0 + math.exp(-object_score_logit)) if object_score_logit > 0 else 0.0
    return max(0.0, 2.0 * probability - 1.0) * predicted_iou


class Held(NamedTuple):
    """Which optional parts a state has, and its quality."""

    pointer: bool
    memory: bool
    quality: float = 0.0
