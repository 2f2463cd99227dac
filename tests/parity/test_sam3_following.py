"""The decisions of following, frame by frame, compared with the stored ones of the original.

Reference: facebookresearch/sam3 at 99d02f2, fed with 44 frames of scripted detections and tracks.  The data's
README describes the fields.
"""

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.golden import needs_data
from tests.golden_sam3 import SAM3, arrays
from tracker_svc.following.association import associate, best_new
from tracker_svc.following.lifecycle import Lifecycle
from tracker_svc.following.mask_rules import (
    HIDDEN_LOGIT,
    hide_shrunk,
    recently_occluded,
    without_duplicates,
    without_specks,
)
from tracker_svc.following.rules import FollowingRules

pytestmark = needs_data

GRID = 96
OUTSIDE = -4.0
MEMORY_GRID = 384

RUNS = {
    "sam3_defaults": FollowingRules(),
    "no_hotstart": FollowingRules(
        hotstart_delay=0, hotstart_unmatched=0, hotstart_duplicate=0, recondition_every=4
    ),
    "bbox_recondition": FollowingRules(recondition_every=0),
    "reverse": FollowingRules(),
}


@cache
def decisions() -> Any:
    return json.loads((SAM3 / "heuristics.json").read_text())


def unpacked(name: str) -> Tensor:
    """Packed masks: [N, GRID, GRID], bool."""
    bits = np.unpackbits(arrays("heuristics")[name], axis=1)[:, : GRID * GRID]
    return torch.from_numpy(bits.reshape(-1, GRID, GRID).astype(bool))


def tracks(actors: list[int], frame: int) -> tuple[Tensor, list[float]]:
    """The logits and the object scores of scripted tracks on one frame."""
    data = arrays("heuristics")
    inside = [float(data[f"tracks/{actor}/inside_logit"][frame]) for actor in actors]
    masks = [unpacked(f"tracks/{actor}/masks")[frame] for actor in actors]
    inside = [float(data[f"tracks/{actor}/inside_logit"][frame]) for actor in actors]
    masks = [unpacked(f"tracks/{actor}/masks")[frame] for actor in actors]
    logits = [torch.where(mask, logit, OUTSIDE) for mask, logit in zip(masks, inside, strict=True)]
    scores = [float(data[f"tracks/{actor}/object_score_logit"][frame]) for actor in actors]
    return torch.stack(logits) if logits else torch.zeros(0, GRID, GRID), scores


@pytest.mark.parametrize("run", RUNS)
def test_decisions(run: str) -> None:
    rules, reverse = RUNS[run], run == "reverse"
    life = Lifecycle()
    actors: dict[int, int] = {}
    next_id = 0
    for number, expected in enumerate(decisions()[run]["frames"]):
        frame = expected["frame"]
        where = f"{run}, entry {number}, frame {frame}"
        raw_scores = arrays("heuristics")[f"detections/f{frame:02}/scores"]
        raw = unpacked(f"detections/f{frame:02}/masks")
        likely = [i for i, score in enumerate(raw_scores) if score > rules.detection_score]
        scores = [float(raw_scores[i]) for i in likely]
        kept = without_duplicates(scores, raw[likely], rules.duplicate_iou)
        assert [likely[i] for i in kept] == expected["nms_keep"], where
        scores, masks = [scores[i] for i in kept], raw[[likely[i] for i in kept]]

        obj_ids = list(actors)
        assert obj_ids == expected["objects_before"], where
        logits, object_scores = tracks([actors[i] for i in obj_ids], frame)
        logits = without_specks(logits, rules.speck_area)
        found = associate(scores, masks, obj_ids, logits > 0, rules)
        new = best_new(found.new, scores, rules.max_objects - len(obj_ids))
        assert new == expected["new_det"], where
        assert sorted(found.unmatched) == expected["unmatched"], where
        assert {str(k): v for k, v in found.matches.items()} == expected["det_to_masklets"], where
        assert {str(k): v for k, v in found.sure.items()} == expected["recondition_candidates"], where

        new_ids = [next_id + i for i in range(len(new))]
        next_id += len(new)
        assert new_ids == expected["new_ids"], where
        removed, hidden = life.update(frame, found, new_ids, rules, reverse=reverse)
        assert sorted(removed) == expected["removed_now"], where
        assert sorted(hidden) == expected["hidden_unmatched"], where
        assert {str(k): v for k, v in life.keep_alive.items()} == expected["keep_alive"], where
        assert {str(k): v for k, v in life.unmatched.items()} == expected["unmatched_count"], where
        assert sorted([*pair, n] for pair, n in life.duplicates.items()) == sorted(
            expected["duplicate_count"]
        ), where

        occluded = [life.last_occluded.get(i, 100_000 if i in removed else -1) for i in obj_ids]
        suppressed = recently_occluded(logits > 0, occluded, rules.occlusion_iou, reverse=reverse)
        assert [i for i, s in zip(obj_ids, suppressed, strict=True) if s] == expected.get(
            "suppressed_overlap", []
        ), where
        for obj_id, mask, is_hidden in zip(obj_ids, logits, suppressed, strict=True):
            last = life.last_occluded.get(obj_id, -1)
            life.last_occluded[obj_id] = frame if is_hidden or not (mask > 0).any() else last
        prompted_again = {
            obj_id
            for obj_id in found.sure
            if rules.recondition_every
            and frame % rules.recondition_every == 0
            and object_scores[obj_ids.index(obj_id)] > rules.recondition_object_score
        }
        assert_memories(expected, logits, obj_ids, suppressed, rules, where)
        before_memory = [c[1] for c in expected["calls"] if c[0] == "add_new_mask" and c[1] in obj_ids]
        if run != "bbox_recondition":
            assert sorted(prompted_again) == sorted(before_memory), where

        raw_actors = arrays("heuristics")[f"detections/f{frame:02}/actors"]
        for obj_id, index in zip(new_ids, new, strict=True):
            actors[obj_id] = int(raw_actors[likely[kept[index]]])
        for obj_id in removed:
            del actors[obj_id]
        assert list(actors) == expected["objects_after"], where


def assert_memories(
    expected: Any,
    logits: Tensor,
    obj_ids: list[int],
    suppressed: list[bool],
    rules: FollowingRules,
    where: str,
) -> None:
    """The areas of the masks that are memorized, enlarged and without those that shrink."""
    if not obj_ids:
        return
    hidden = torch.tensor(suppressed)[:, None, None]
    shown = torch.where(hidden, HIDDEN_LOGIT, logits)
    size = (MEMORY_GRID, MEMORY_GRID)
    enlarged = torch.nn.functional.interpolate(shown[None], size=size, mode="bilinear")[0]
    areas = (hide_shrunk(enlarged, rules.shrink_ratio) > 0).sum(dim=(1, 2)).tolist()
    calls = {c[1]: (c[2], c[3]) for c in expected["calls"] if c[0] == "encode_memory"}
    for obj_id, area in zip(obj_ids, areas, strict=True):
        if obj_id in calls:
            assert area == pytest.approx(calls[obj_id][0], abs=1), (where, obj_id)
            assert (area > 0) == (calls[obj_id][1] > 0), (where, obj_id)
