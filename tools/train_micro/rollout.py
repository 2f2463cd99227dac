"""Tracking of B objects frame by frame, with gradients; each object has its own clip.

The stored states and the selected memories follow ``tracker_svc.memory.memory_bank``: all prompted frames,
the 6 previous frames, and the object pointers of 16 frames.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from maskmesh.nn.image_features import ImageFeatures
from tracker_svc.memory.memory_bank import CLEARED_AROUND_PROMPT, RECENT_POINTERS
from tracker_svc.model.mask_decoder import DecodedMasks, stable_mask
from tracker_svc.model.memory_attention import Memories, Pointer, SpatialMemory
from tracker_svc.model.tracking_model import MEMORY_SLOTS, ObjectPredictions, TrackingModel


@dataclass(frozen=True, slots=True)
class Remembered:
    """The memory of B objects for one frame."""

    frame_index: int
    memory_features: Tensor  # [B, memory_dim, E, E]
    object_pointers: Tensor  # [B, C]
    prompted: bool


class Rollout:
    """The memory bank of B objects, and the steps of tracking."""

    def __init__(self, model: TrackingModel) -> None:
        self.model = model
        self._frames: list[Remembered] = []
        self._next = 0

    def prompt(self, frame: ImageFeatures, decoded: DecodedMasks, *, ambiguous: bool) -> ObjectPredictions:
        """Memorize a prompted frame; ``ambiguous`` prompts take the best of three masks."""
        predicted = self.model.select(chosen(decoded, ambiguous=ambiguous))
        doubtful = range(self._next - CLEARED_AROUND_PROMPT, self._next)
        self._frames = [f for f in self._frames if f.prompted or f.frame_index not in doubtful]
        return self._remember(frame, predicted, prompted=True)

    def adopt(self, frame: ImageFeatures, masks: Tensor) -> ObjectPredictions:
        """Memorize a frame on which every object is given as a mask: [B, 1, S, S], zeros and ones."""
        predicted = self.model.adopt_mask(frame, masks)
        return self._remember(frame, predicted, prompted=True)

    def attend(self, frame: ImageFeatures) -> tuple[Tensor, DecodedMasks]:
        """Memory-conditioned features of the next frame, [B, C, E, E], and all four masks."""
        queries = self.model.query_memories(frame)
        conditioned = self.model.attend_to_memories(queries, self._memories())
        prompts = self.model.encode_no_prompt(len(conditioned))
        decoded: DecodedMasks = self.model.sam_mask_decoder.decode_all(
            conditioned,
            self.model.sam_prompt_encoder.image_positions(),
            prompts.sparse_embeddings,
            prompts.dense_embeddings,
            frame.high_res_features,
        )
        return conditioned, decoded

    def track(self, frame: ImageFeatures, decoded: DecodedMasks) -> ObjectPredictions:
        """Select the masks of a tracked frame and memorize it."""
        predicted = self.model.select(chosen(decoded, ambiguous=True))
        return self._remember(frame, predicted, prompted=False)

    def forget(self) -> None:
        """Lose all memories but those of prompted frames."""
        self._frames = [frame for frame in self._frames if frame.prompted]

    def _remember(
        self, frame: ImageFeatures, predicted: ObjectPredictions, *, prompted: bool
    ) -> ObjectPredictions:
        count = len(predicted.low_res_masks)
        features = self.model.encode_memory(
            frame,
            predicted.low_res_masks,
            predicted.object_score_logits,
            torch.full((count,), prompted, device=self.model.device),
        )
        self._frames.append(Remembered(self._next, features, predicted.object_pointers, prompted))
        self._next += 1
        oldest = self._next - RECENT_POINTERS
        self._frames = [f for f in self._frames if f.prompted or f.frame_index >= oldest]
        return predicted

    def _memories(self) -> list[Memories]:
        count = len(self._frames[0].object_pointers)
        near = [f for f in self._frames if f.prompted or self._next - f.frame_index < MEMORY_SLOTS]
        return [
            Memories(
                [SpatialMemory(f.memory_features[row], self._slot(f)) for f in near],
                [Pointer(f.object_pointers[row], self._next - f.frame_index) for f in self._frames],
            )
            for row in range(count)
        ]

    def _slot(self, seen: Remembered) -> int:
        return MEMORY_SLOTS - 1 if seen.prompted else self._next - seen.frame_index - 1


def chosen(decoded: DecodedMasks, *, ambiguous: bool) -> DecodedMasks:
    """The masks that the decoder returns at inference: three for an ambiguous prompt, otherwise one."""
    masks, ious, tokens, scores = decoded
    if ambiguous:
        return DecodedMasks(masks[:, 1:], ious[:, 1:], tokens[:, 1:], scores)
    return DecodedMasks(*stable_mask(masks, ious), tokens[:, :1], scores)
