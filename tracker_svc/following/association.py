"""Association of the detections on a frame with the objects that are followed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from tracker_svc.following.mask_rules import mask_iou
from tracker_svc.following.rules import FollowingRules


@dataclass(frozen=True, slots=True, kw_only=True)
class Association:
    """Which detections and objects belong together; objects by ``obj_id``, detections by index."""

    new: Sequence[int] = ()
    """Detections that become objects."""
    matches: Mapping[int, Sequence[int]] = field(default_factory=dict)
    """The objects of each detection; an object may have several detections, and the reverse."""
    unmatched: Sequence[int] = ()
    """Objects in sight that no detection confirms."""
    empty: Sequence[int] = ()
    """Objects that are out of sight."""
    sure: Mapping[int, int] = field(default_factory=dict)
    """The detection of each object that is sure enough to prompt it again."""

    def best_scores(self, scores: Sequence[float]) -> dict[int, float]:
        """The highest score of the detections of each matched object."""
        best: dict[int, float] = {}
        for index, obj_ids in self.matches.items():
            for obj_id in obj_ids:
                best[obj_id] = max(best.get(obj_id, 0.0), scores[index])
        return best


def associate(
    scores: Sequence[float],
    detections: Tensor,
    obj_ids: Sequence[int],
    tracks: Tensor,
    rules: FollowingRules,
) -> Association:
    """Associate by mask IoU.

    detections: [N, H, W], bool, without duplicates; tracks: [M, H, W], bool, of the objects ``obj_ids``.
    While there is no object, every detection is new.
    """
    if not obj_ids:
        return Association(new=range(len(scores)))
    in_sight = tracks.flatten(1).any(dim=1).tolist()
    empty = [obj_id for obj_id, seen in zip(obj_ids, in_sight, strict=True) if not seen]
    if not scores:
        return Association(unmatched=[o for o in obj_ids if o not in empty], empty=empty)
    ious = mask_iou(detections, tracks)
    confirmed = (ious >= rules.confirm_iou).any(dim=0).tolist()
    overlaps = (ious >= rules.match_iou).tolist()
    matches = {
        index: [obj_id for obj_id, overlap in zip(obj_ids, row, strict=True) if overlap]
        for index, row in enumerate(overlaps)
    }
    new = [i for i, score in enumerate(scores) if score >= rules.new_score and not matches[i]]
    best_iou, best_object = (values.tolist() for values in ious.max(dim=1))
    sure = {
        obj_ids[best_object[index]]: index
        for index, score in enumerate(scores)
        if score >= rules.recondition_score and index not in new and best_iou[index] >= rules.recondition_iou
    }
    return Association(
        new=new,
        matches=matches,
        unmatched=[o for o, seen, ok in zip(obj_ids, in_sight, confirmed, strict=True) if seen and not ok],
        empty=empty,
        sure=sure,
    )


def best_new(new: Sequence[int], scores: Sequence[float], room: int) -> list[int]:
    """The new detections with the highest scores that there is room for, in their order."""
    if len(new) <= room:
        return list(new)
    kept = sorted(new, key=lambda index: -scores[index])[: max(room, 0)]
    return [index for index in new if index in kept]
