"""The stages of the concept detector, composed into the detection of several concepts on frames.

Runs on the device's thread.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from tracker_svc.model.detection.neck import DetectorMaps

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


class Search(NamedTuple):
    """One concept to find on a frame, with scores above ``threshold``."""

    frame: Frame
    concept: Concept
    threshold: float
    recorder: StageRecorder


@dataclass(slots=True)
class _Maps:
    """The maps of the detector's neck for one frame; the finer ones are computed if they are needed."""

    trunk_map: Tensor
    coarse: Tensor
    fine: DetectorMaps | tuple[()] = ()


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

        ``max_instances`` 0 is no limit.  The masks of a few concepts are in memory at a time.
        """
        searches = [Search(frame, concept, threshold, recorder) for concept in concepts]
        yield from self.search(searches, max_instances=max_instances, omit_masks=omit_masks)

    @torch.inference_mode()
    def search(
        self, searches: Sequence[Search], *, max_instances: int = 0, omit_masks: bool = False
    ) -> Iterator[Detections]:
        """Yields the instances of each search, also on several frames, a few searches at a time.

        The neck runs once for each frame, its finer levels and the mask head only if a search has an
        instance.
        """
        maps: dict[int, _Maps] = {}
        for search in searches:
            if id(search.frame) not in maps:
                maps[id(search.frame)] = self._maps(search)
        prompts = [self._prompt(search, maps[id(search.frame)].coarse) for search in searches]
        last_use = {id(search.frame): index for index, search in enumerate(searches)}
        for start in range(0, len(searches), CONCEPTS_PER_BATCH):
            batch = searches[start : start + CONCEPTS_PER_BATCH]
            of_batch = list({id(search.frame): maps[id(search.frame)] for search in batch}.values())
            rows = [maps[id(search.frame)] for search in batch] if len(of_batch) > 1 else of_batch
            recorders = list({id(search.recorder): search.recorder for search in batch}.values())
            attributes: telemetry.Attributes = {telemetry.BATCH_SIZE: len(batch)}
            with telemetry.stages(recorders, telemetry.DETECTOR_ENCODER, attributes):
                coarse = _stacked([each.coarse for each in rows])
                fused = self._detector.fuse(coarse, prompts[start : start + CONCEPTS_PER_BATCH])
            with telemetry.stages(recorders, telemetry.DETECTOR_DECODER, attributes):
                scored = self._detector.decode(fused)
                chosen = _choose(scored, [search.threshold for search in batch], max_instances)
            masks: Sequence[Tensor | None] = [None] * len(batch)
            if not omit_masks and any(chosen):
                for search in batch:
                    self._add_fine_maps(search, maps[id(search.frame)])
                with telemetry.stages(recorders, telemetry.MASK_HEAD, attributes):
                    fine = DetectorMaps(*map(_stacked, zip(*(each.fine for each in rows), strict=True)))
                    masks = self._detector.masks(fused, fine, scored.queries, chosen)
            for search in batch:  # the finer maps are large
                if last_use[id(search.frame)] < start + CONCEPTS_PER_BATCH:
                    maps[id(search.frame)].fine = ()
            yield from _detections(scored, chosen, masks, [search.frame for search in batch])

    def _maps(self, search: Search) -> _Maps:
        embedding = search.frame.embedding
        assert isinstance(embedding, TrunkFeatures)
        with search.recorder.stage(telemetry.DETECTOR_NECK):
            return _Maps(embedding.trunk_map, self._detector.coarse_map(embedding.trunk_map))

    def _add_fine_maps(self, search: Search, maps: _Maps) -> None:
        if not maps.fine:
            with search.recorder.stage(telemetry.DETECTOR_NECK):
                maps.fine = self._detector.fine_maps(maps.trunk_map)

    def _prompt(self, search: Search, coarse: Tensor) -> Tensor:
        """The tokens of a concept: words, boxes, class token: [1, M, dim]."""
        concept, recorder = search.concept, search.recorder
        words = self._words(self.tokenize(concept), coarse.device, recorder)
        with recorder.stage(telemetry.EXEMPLAR_ENCODER):
            boxes = torch.tensor([_relative(e.box, search.frame) for e in concept.exemplars]).view(-1, 4)
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


def _stacked(maps: Sequence[Tensor]) -> Tensor:
    """The maps of several images as one batch; a single one as it is, because the finer ones are large."""
    return maps[0] if len(maps) == 1 else torch.cat(list(maps))


def _choose(scored: ScoredQueries, thresholds: Sequence[float], max_instances: int) -> list[list[int]]:
    """The queries of each concept with scores above its threshold, the highest first."""
    chosen = []
    for scores, threshold in zip(scored.scores, thresholds, strict=True):
        order = scores.argsort(descending=True, stable=True)
        kept = order[scores[order] > threshold].tolist()
        chosen.append(kept[:max_instances] if max_instances else kept)
    return chosen


def _detections(
    scored: ScoredQueries,
    chosen: Sequence[list[int]],
    masks: Sequence[Tensor | None],
    frames: Sequence[Frame],
) -> Iterator[Detections]:
    presence = scored.presence_logits.sigmoid().tolist()
    for row, (indices, frame) in enumerate(zip(chosen, frames, strict=True)):
        edges = corners(scored.boxes[row, indices]).clamp(0, 1)
        boxes = (edges * torch.tensor([frame.width, frame.height] * 2, device=edges.device)).tolist()
        scores = scored.scores[row, indices].tolist()
        yield Detections(presence[row], scores, [Box(*box) for box in boxes], masks[row])


def _relative(box: Box, frame: Frame) -> tuple[float, float, float, float]:
    """Centre, width and height of a box, 0 to 1."""
    x0, x1 = box.x0 / frame.width, box.x1 / frame.width
    y0, y1 = box.y0 / frame.height, box.y1 / frame.height
    return (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0
