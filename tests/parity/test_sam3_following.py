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
from tracker_svc.following.decision import Decision, Detected, Tracks, decide
from tracker_svc.following.lifecycle import Lifecycle
from tracker_svc.following.mask_rules import hide_shrunk, without_duplicates
from tracker_svc.following.rules import FollowingRules

pytestmark = needs_data

GRID = 96
INSIDE, OUTSIDE = 4.0, -4.0
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
        detected = Detected(scores, torch.where(raw[likely], INSIDE, OUTSIDE))
        kept = without_duplicates(scores, raw[likely], rules.duplicate_iou)
        assert [likely[i] for i in kept] == expected["nms_keep"], where

        obj_ids = list(actors)
        assert obj_ids == expected["objects_before"], where
        logits, object_scores = tracks([actors[i] for i in obj_ids], frame)
        decision = decide(
            Tracks(obj_ids=obj_ids, logits=logits, object_score_logits=object_scores),
            detected,
            life,
            rules,
            frame_index=frame,
            next_id=next_id,
            room=rules.max_objects,
            reverse=reverse,
        )
        assert_decision(decision, expected, where)
        assert_memories(expected, decision.memorized, obj_ids, rules, where)
        before_memory = [c[1] for c in expected["calls"] if c[0] == "add_new_mask" and c[1] in obj_ids]
        if run != "bbox_recondition":
            assert sorted(decision.reconditioned) == sorted(before_memory), where

        life = decision.life
        next_id += len(decision.new)
        raw_actors = arrays("heuristics")[f"detections/f{frame:02}/actors"]
        for obj_id, index in decision.new.items():
            actors[obj_id] = int(raw_actors[likely[kept[index]]])
        for obj_id in decision.gone:
            del actors[obj_id]
        assert list(actors) == expected["objects_after"], where


def assert_decision(decision: Decision, expected: Any, where: str) -> None:
    """A decision equals the stored one; counters of objects that have left are not kept."""
    found, lives = decision.found, decision.life.lives
    assert list(decision.new.values()) == expected["new_det"], where
    assert list(decision.new) == expected["new_ids"], where
    assert sorted(found.unmatched) == expected["unmatched"], where
    assert {str(k): v for k, v in found.matches.items()} == expected["det_to_masklets"], where
    assert {str(k): v for k, v in found.sure.items()} == expected["recondition_candidates"], where
    assert sorted(decision.gone) == expected["removed_now"], where
    kept = {str(obj_id): life.keep_alive for obj_id, life in lives.items()}
    assert kept == {k: v for k, v in expected["keep_alive"].items() if int(k) in lives}, where
    if "unmatched_count" in expected:
        unmatched = {str(obj_id): life.unmatched for obj_id, life in lives.items() if life.unmatched}
        stored = {k: v for k, v in expected["unmatched_count"].items() if int(k) in lives and v}
        assert unmatched == stored, where
        doubles = [d for d in expected["duplicate_count"] if d[0] in lives and d[1] in lives]
        counted = sorted([*pair, n] for pair, n in decision.life.duplicates.items())
        assert counted == sorted(doubles), where
    assert sorted(decision.hidden) == sorted(expected.get("suppressed_overlap", [])), where


def assert_memories(
    expected: Any, logits: Tensor, obj_ids: list[int], rules: FollowingRules, where: str
) -> None:
    """The areas of the masks that are memorized, enlarged and without those that shrink."""
    if not obj_ids:
        return
    size = (MEMORY_GRID, MEMORY_GRID)
    enlarged = torch.nn.functional.interpolate(logits[None], size=size, mode="bilinear")[0]
    areas = (hide_shrunk(enlarged, rules.shrink_ratio) > 0).sum(dim=(1, 2)).tolist()
    calls = {c[1]: (c[2], c[3]) for c in expected["calls"] if c[0] == "encode_memory"}
    for obj_id, area in zip(obj_ids, areas, strict=True):
        if obj_id in calls:
            assert area == pytest.approx(calls[obj_id][0], abs=1), (where, obj_id)
            assert (area > 0) == (calls[obj_id][1] > 0), (where, obj_id)
