"""The state of one object on one frame."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class FrameState:
    """The state of one object on one frame.

    Pointer and memory are None if they were cleared or are not computed yet.
    """

    low_res_masks: Tensor  # [1, S / 4, S / 4] logits, float32
    predicted_iou: float
    object_score_logit: float
    object_pointer: Tensor | None  # [C]
    memory_features: Tensor | None = None  # [memory_dim, E, E], bfloat16

    @property
    def num_bytes(self) -> int:
        """Size of the tensors."""
        tensors = (self.low_res_masks, self.object_pointer, self.memory_features)
        return sum(t.nbytes for t in tensors if t is not None)

    @property
    def held(self) -> "Held":
        """Which optional parts the state has."""
        return Held(self.object_pointer is not None, self.memory_features is not None)


class Held(NamedTuple):
    """Which optional parts a state has."""

    pointer: bool
    memory: bool
