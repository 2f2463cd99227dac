"""What happens to the objects of one concept on a frame, decided from detections and tracked masks.

Source: Carion et al., "SAM 3: Segment Anything with Concepts" (2025), and the reference implementation.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from maskmesh import telemetry
from tracker_svc.following.association import Association, associate, best_new
from tracker_svc.following.lifecycle import Lifecycle
from tracker_svc.following.mask_rules import (
    HIDDEN_LOGIT,
    recently_occluded,
    without_duplicates,
    without_specks,
)
from tracker_svc.following.rules import FollowingRules


@dataclass(frozen=True, slots=True)
class Detected:
    """The detections of a concept on a frame."""

    scores: Sequence[float]
    logits: Tensor  # [N, H, W]

    def only(self, indices: Sequence[int]) -> "Detected":
        """Some of the detections."""
        return Detected([self.scores[i] for i in indices], self.logits[list(indices)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracks:
    """The objects of a concept as they were tracked to a frame, before the frame is memorized."""

    obj_ids: Sequence[int]
    logits: Tensor  # [M, H, W]
    object_score_logits: Sequence[float]
    dismissed: Collection[int] = ()
    """Objects that the client removed; they only keep their detections from becoming objects again."""
    confirmed: Collection[int] = ()
    """Objects that the client prompted; they do not leave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What happens on a frame; objects by ``obj_id``, detections by their index in ``detected``."""

    life: Lifecycle
    """The counters after the frame."""
    detected: Detected | None
    """Without duplicates; None if the frame was not searched."""
    found: Association
    new: Mapping[int, int] = field(default_factory=dict)
    """The detection of each new object."""
    scores: Mapping[int, float] = field(default_factory=dict)
    """The score of each object that was detected."""
    gone: Mapping[int, str] = field(default_factory=dict)
    """The objects that leave, and why."""
    reconditioned: Mapping[int, int] = field(default_factory=dict)
    """The detection that prompts each object again."""
    hidden: Sequence[int] = ()
    shown: Tensor  # [M, H, W] logits, in the order of the tracks
    memorized: Tensor  # [M, H, W] logits, before the rule of shrinking

    def events(self) -> Iterator[tuple[str, int, telemetry.Attributes]]:
        """The name, the object and the details of each thing that happens."""
        for obj_id in self.new:
            yield telemetry.OBJECT_FOUND, obj_id, {telemetry.CONCEPT_SCORE: self.scores[obj_id]}
        for obj_id, reason in self.gone.items():
            yield telemetry.OBJECT_GONE, obj_id, {telemetry.REASON: reason}
        for obj_id in self.hidden:
            yield telemetry.OBJECT_HELD_BACK, obj_id, {}
        for obj_id in self.found.unmatched:
            yield telemetry.OBJECT_UNMATCHED, obj_id, {}
        for obj_id in self.reconditioned:
            yield telemetry.OBJECT_RECONDITIONED, obj_id, {telemetry.CONCEPT_SCORE: self.scores[obj_id]}


def decide(
    tracks: Tracks,
    detected: Detected | None,
    before: Lifecycle,
    rules: FollowingRules,
    *,
    frame_index: int,
    next_id: int,
    room: int,
    reverse: bool = False,
) -> Decision:
    """Decide for one frame; ``before`` is not changed.

    New objects get numbers from ``next_id`` on, at most ``room`` of them.
    """
    life = before.copy()
    life.begin_frame(frame_index, reverse=reverse)
    life.grow(tracks.obj_ids, rules, reverse=reverse)
    logits = without_specks(tracks.logits, rules.speck_area)
    found = Association()
    new: dict[int, int] = {}
    gone: dict[int, str] = {}
    scores: dict[int, float] = {}
    if detected is not None:
        kept = without_duplicates(detected.scores, detected.logits > 0, rules.duplicate_iou)
        detected = detected.only(kept)
        found = associate(detected.scores, detected.logits > 0, tracks.obj_ids, logits > 0, rules)
        room = min(room, rules.max_objects - len(tracks.obj_ids) + len(tracks.dismissed))
        chosen = best_new(found.new, detected.scores, room)
        new = dict(enumerate(chosen, start=next_id))
        life.add(frame_index, new, rules)
        life.count(found, rules, dismissed=tracks.dismissed, reverse=reverse)
        scores = found.best_scores(detected.scores)
        scores |= {obj_id: detected.scores[index] for obj_id, index in new.items()}
        leaving = life.leaving(rules, dismissed=tracks.dismissed, reverse=reverse)
        gone = {i: reason for i, reason in leaving.items() if i not in tracks.confirmed}
    occluded = _hide_occluded(life, tracks, logits, rules, frame_index=frame_index, reverse=reverse)
    lapsed = [i for i in life.hidden(rules) if i in tracks.obj_ids and i not in gone]
    memorized = _hide(logits, tracks.obj_ids, occluded)
    reconditioned = _reconditioned(found, tracks, rules, frame_index)
    for obj_id in gone:
        life.remove(obj_id, None if obj_id in tracks.dismissed else frame_index)
    return Decision(
        life=life,
        detected=detected,
        found=found,
        new=new,
        scores=scores,
        gone=gone,
        reconditioned={i: d for i, d in reconditioned.items() if i not in gone},
        hidden=list(dict.fromkeys([*occluded, *lapsed])),
        shown=_hide(memorized, tracks.obj_ids, lapsed),
        memorized=memorized,
    )


def _hide_occluded(
    life: Lifecycle,
    tracks: Tracks,
    logits: Tensor,
    rules: FollowingRules,
    *,
    frame_index: int,
    reverse: bool,
) -> list[int]:
    """The objects that hide behind others, which is recorded in ``life``."""
    occlusions = []
    for obj_id in tracks.obj_ids:
        last = life.lives[obj_id].last_occluded
        # A dismissed object hides nobody.
        occlusions.append(-1 if last is None or obj_id in tracks.dismissed else last)
    hides = recently_occluded(logits > 0, occlusions, rules.occlusion_iou, reverse=reverse)
    in_sight = (logits > 0).flatten(1).any(dim=1).tolist()
    for obj_id, is_hidden, is_seen in zip(tracks.obj_ids, hides, in_sight, strict=True):
        if is_hidden or not is_seen:
            life.occlude(obj_id, frame_index)
    return [obj_id for obj_id, is_hidden in zip(tracks.obj_ids, hides, strict=True) if is_hidden]


def _hide(logits: Tensor, obj_ids: Sequence[int], hidden: Collection[int]) -> Tensor:
    """Replace the logits of hidden objects."""
    if not hidden:
        return logits
    rows = torch.tensor([obj_id in hidden for obj_id in obj_ids], device=logits.device)
    return torch.where(rows[:, None, None], HIDDEN_LOGIT, logits)


def _reconditioned(
    found: Association, tracks: Tracks, rules: FollowingRules, frame_index: int
) -> dict[int, int]:
    if not rules.recondition_every or frame_index % rules.recondition_every:
        return {}
    score = dict(zip(tracks.obj_ids, tracks.object_score_logits, strict=True))
    return {
        obj_id: index
        for obj_id, index in found.sure.items()
        if score[obj_id] > rules.recondition_object_score and obj_id not in tracks.dismissed
    }
