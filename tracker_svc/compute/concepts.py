"""The stages of the concept detector, composed into the detection of several concepts on one frame.

Runs on the device's thread.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from cachetools import LRUCache
from torch import Tensor

from maskmesh import telemetry
from maskmesh.concepts import Concept
from maskmesh.nn.image_features import TrunkFeatures
from maskmesh.telemetry import StageRecorder
from maskmesh.types import Box
from tracker_svc.compute.step import Frame
from tracker_svc.compute.tokenizer import PhraseTokenizer
from tracker_svc.model.detection.detector import ConceptDetector, ScoredQueries
from tracker_svc.model.detection.layers import corners

# The phrase of a concept that has boxes alone, as in training.
PHRASE_OF_BOXES = "visual"

# Encoded phrases that are kept for all sessions, up to 16 KiB each.
MAX_PHRASES = 1024

# Concepts that are computed at once; more take too much memory for the maps of their masks.
CONCEPTS_PER_BATCH = 4


class Detections(NamedTuple):
    """The instances of one concept, the highest score first."""

    presence: float
    scores: list[float]
    boxes: list[Box]  # in pixels of the frame
    masks: Tensor | None  # [N, 4 E, 4 E] logits, float32; None if they were omitted


class ConceptFinder:
    """Detects concepts with one model.  Encoded phrases are cached for all callers."""

    def __init__(self, detector: ConceptDetector, tokenizer: PhraseTokenizer) -> None:
        self._detector = detector
        self._tokenizer = tokenizer
        self._phrases: LRUCache[tuple[int, ...], Tensor] = LRUCache(MAX_PHRASES)

    def tokenize(self, concept: Concept) -> tuple[int, ...]:
        """The tokens of a concept's phrase.  Raises PhraseTooLong.  Safe on any thread."""
        return tuple(self._tokenizer.encode(concept.phrase or PHRASE_OF_BOXES))

    @torch.inference_mode()
    def detect(
        self,
        frame: Frame,
        concepts: Sequence[Concept],
        *,
        threshold: float,
        max_instances: int = 0,
        omit_masks: bool = False,
        recorder: StageRecorder,
    ) -> Iterator[Detections]:
        """Yields the instances of each concept on one frame whose scores are above ``threshold``.

        The neck runs once for all concepts, its finer levels and the mask head only if a concept has an
        instance.  ``max_instances`` 0 is no limit.  The masks of a few concepts are in memory at a time.
        """
        assert isinstance(frame.embedding, TrunkFeatures)
        trunk_map = frame.embedding.trunk_map
        with recorder.stage(telemetry.DETECTOR_NECK):
            coarse = self._detector.coarse_map(trunk_map)
        prompts = [self._prompt(concept, coarse, frame, recorder) for concept in concepts]
        fine = None
        for start in range(0, len(prompts), CONCEPTS_PER_BATCH):
            batch = prompts[start : start + CONCEPTS_PER_BATCH]
            attributes: telemetry.Attributes = {telemetry.BATCH_SIZE: len(batch)}
            with recorder.stage(telemetry.DETECTOR_ENCODER, attributes):
                fused = self._detector.fuse(coarse, batch)
            with recorder.stage(telemetry.DETECTOR_DECODER, attributes):
                scored = self._detector.decode(fused)
                chosen = _choose(scored, threshold, max_instances)
            masks: Sequence[Tensor | None] = [None] * len(batch)
            if not omit_masks and any(chosen):
                if fine is None:
                    with recorder.stage(telemetry.DETECTOR_NECK):
                        fine = self._detector.fine_maps(trunk_map)
                with recorder.stage(telemetry.MASK_HEAD, attributes):
                    masks = self._detector.masks(fused, fine, scored.queries, chosen)
            yield from _detections(scored, chosen, masks, frame)

    def _prompt(self, concept: Concept, coarse: Tensor, frame: Frame, recorder: StageRecorder) -> Tensor:
        """The tokens of a concept: words, boxes, class token: [1, M, dim]."""
        words = self._words(self.tokenize(concept), coarse.device, recorder)
        with recorder.stage(telemetry.EXEMPLAR_ENCODER):
            boxes = torch.tensor([_relative(e.box, frame) for e in concept.exemplars]).view(-1, 4)
            labels = torch.tensor([int(e.positive) for e in concept.exemplars], dtype=torch.long)
            exemplars = self._detector.encode_exemplars(
                coarse, boxes.to(coarse.device), labels.to(coarse.device)
            )
        return torch.cat((words, exemplars), dim=1)

    def _words(self, tokens: tuple[int, ...], device: torch.device, recorder: StageRecorder) -> Tensor:
        words = self._phrases.get(tokens)
        if words is None:
            with recorder.stage(telemetry.TEXT_ENCODER):
                words = self._detector.encode_text(torch.tensor([tokens], device=device))
            self._phrases[tokens] = words
        return words


def _choose(scored: ScoredQueries, threshold: float, max_instances: int) -> list[list[int]]:
    """The queries of each concept with scores above the threshold, the highest first."""
    chosen = []
    for scores in scored.scores:
        order = scores.argsort(descending=True, stable=True)
        kept = order[scores[order] > threshold].tolist()
        chosen.append(kept[:max_instances] if max_instances else kept)
    return chosen


def _detections(
    scored: ScoredQueries, chosen: Sequence[list[int]], masks: Sequence[Tensor | None], frame: Frame
) -> Iterator[Detections]:
    presence = scored.presence_logits.sigmoid().tolist()
    for row, indices in enumerate(chosen):
        edges = corners(scored.boxes[row, indices]).clamp(0, 1)
        boxes = (edges * torch.tensor([frame.width, frame.height] * 2, device=edges.device)).tolist()
        scores = scored.scores[row, indices].tolist()
        yield Detections(presence[row], scores, [Box(*box) for box in boxes], masks[row])


def _relative(box: Box, frame: Frame) -> tuple[float, float, float, float]:
    """Centre, width and height of a box, 0 to 1."""
    x0, x1 = box.x0 / frame.width, box.x1 / frame.width
    y0, y1 = box.y0 / frame.height, box.y1 / frame.height
    return (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0
