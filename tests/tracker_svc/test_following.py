"""Decisions about the objects of a concept, on drawn masks.

The published rules are compared with the original in tests/parity; here are the rules that are ours: jumps,
dismissed and prompted objects, numbers, the reserve of room, and snapshots.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from maskmesh.concepts import Concept, ConceptOptions, Exemplar, SessionConcept
from maskmesh.errors import InvalidRequest
from maskmesh.types import Box
from tracker_svc.following.decision import Decision, Detected, Tracks, decide
from tracker_svc.following.followed_concept import FollowedConcept, rules_of
from tracker_svc.following.lifecycle import GONE_FRAMES, Lifecycle
from tracker_svc.following.mask_rules import HIDDEN_LOGIT
from tracker_svc.following.rules import FollowingRules
from tracker_svc.sessions.concept_snapshot import concept_from_proto, concept_to_proto
from tracker_svc.sessions.session_concepts import SessionConcepts

GRID = 32
RULES = FollowingRules(speck_area=0, hotstart_unmatched=2, hotstart_duplicate=2, hotstart_delay=4)
FIRST = 100


def block(column: int, *, width: int = 8) -> Tensor:
    """Logits of a block of 8 rows: [GRID, GRID]."""
    logits = torch.full((GRID, GRID), -4.0)
    logits[4:12, column : column + width] = 4.0
    return logits


NOTHING = torch.full((GRID, GRID), -4.0)


def stacked(masks: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(masks)) if masks else torch.zeros(0, GRID, GRID)


class Following:
    """Objects of one concept, whose tracks are given by hand."""

    def __init__(self, rules: FollowingRules = RULES) -> None:
        self.rules = rules
        self.life = Lifecycle()
        self.obj_ids: list[int] = []
        self.next_id = FIRST

    def see(
        self,
        frame_index: int,
        detections: Sequence[tuple[float, Tensor]] | None,
        tracks: Sequence[Tensor] = (),
        *,
        dismissed: Collection[int] = (),
        confirmed: Collection[int] = (),
        room: int = 10,
        reverse: bool = False,
    ) -> Decision:
        """Decide a frame, and put the decision into effect."""
        detected = None
        if detections is not None:
            detected = Detected([score for score, _ in detections], stacked([mask for _, mask in detections]))
        decision = decide(
            Tracks(
                obj_ids=self.obj_ids,
                logits=stacked(tracks),
                object_score_logits=[5.0] * len(self.obj_ids),
                dismissed=dismissed,
                confirmed=confirmed,
            ),
            detected,
            self.life,
            self.rules,
            frame_index=frame_index,
            next_id=self.next_id,
            room=room,
            reverse=reverse,
        )
        self.life = decision.life
        self.next_id += len(decision.new)
        self.obj_ids = [i for i in self.obj_ids if i not in decision.gone] + list(decision.new)
        return decision


def test_new_objects_are_numbered_and_scored() -> None:
    following = Following()
    decision = following.see(0, [(0.6, block(0)), (0.9, block(16))])
    assert decision.new == {FIRST: 0, FIRST + 1: 1}
    assert decision.scores == {FIRST: 0.6, FIRST + 1: 0.9}
    later = following.see(1, [(0.8, block(0))], [block(0), block(16)])
    assert not later.new
    assert later.scores == {FIRST: 0.8}
    assert later.found.unmatched == [FIRST + 1]


def test_the_best_detections_become_objects_if_there_is_little_room() -> None:
    following = Following()
    decision = following.see(0, [(0.6, block(0)), (0.9, block(8)), (0.8, block(16))], room=2)
    assert decision.new == {FIRST: 1, FIRST + 1: 2}
    limited = Following(replace(RULES, max_objects=1))
    assert limited.see(0, [(0.6, block(0)), (0.9, block(8))]).new == {FIRST: 1}
    assert not limited.see(1, [(0.9, block(20))], [block(8)]).new


def test_the_state_before_is_not_changed() -> None:
    following = Following()
    following.see(0, [(0.9, block(0))])
    before = following.life.copy()
    decide(
        Tracks(obj_ids=[FIRST], logits=stacked([NOTHING]), object_score_logits=[5.0]),
        Detected([], stacked([])), following.life, RULES, frame_index=1, next_id=FIRST + 1, room=1,
    )  # fmt: skip
    assert following.life == before


def test_false_objects_leave_with_a_reason() -> None:
    following = Following()
    following.see(0, [(0.9, block(0)), (0.9, block(16))])
    following.see(1, [(0.9, block(0))], [block(0), block(16)])
    decision = following.see(2, [(0.9, block(0))], [block(0), block(16)])
    assert decision.gone == {FIRST + 1: "unmatched"}
    assert decision.life.gone_on(2) == [FIRST + 1]
    assert decision.life.new_on(0) == [FIRST]


def test_doubles_of_an_older_object_leave() -> None:
    following = Following()
    following.see(0, [(0.9, block(0))])
    following.see(1, [(0.9, block(0)), (0.9, block(16))], [block(0)])
    # The younger object moves onto the older one.
    following.see(2, [(0.9, block(0))], [block(0), block(1)])
    decision = following.see(3, [(0.9, block(0))], [block(0), block(1)])
    assert decision.gone == {FIRST + 1: "duplicate"}


def test_prompted_objects_do_not_leave() -> None:
    following = Following()
    following.see(0, [(0.9, block(0))])
    for index in (1, 2, 3):
        assert not following.see(index, [], [block(0)], confirmed=[FIRST]).gone


def test_counts_begin_again_after_a_jump() -> None:
    """Otherwise an object would leave because a range of frames was tracked twice."""
    following = Following()
    following.see(0, [(0.9, block(0))])
    following.see(1, [], [block(0)])
    assert not following.see(1, [], [block(0)]).gone
    assert following.see(2, [], [block(0)]).gone == {FIRST: "unmatched"}


@pytest.mark.parametrize("reverse", [False, True])
def test_objects_are_young_in_the_direction_of_tracking(*, reverse: bool) -> None:
    following = Following()
    step = -1 if reverse else 1
    following.see(10, [(0.9, block(0))], reverse=reverse)
    for number in range(1, RULES.hotstart_delay):
        following.see(10 + number * step, [(0.9, block(0))], [block(0)], reverse=reverse)
    for number in range(RULES.hotstart_delay, 9):
        assert not following.see(10 + number * step, [], [block(0)], reverse=reverse).gone


def test_dismissed_objects_keep_their_detections_until_they_lapse() -> None:
    following = Following(replace(RULES, keep_alive_start=2))
    following.see(0, [(0.9, block(0))])
    for index in (1, 2, 3):
        decision = following.see(index, [(0.9, block(0))], [block(0)], dismissed=[FIRST])
        assert not decision.new
    following.see(4, [], [NOTHING], dismissed=[FIRST])
    lives = following.life.lives[FIRST]
    for index in range(5, 5 + lives.keep_alive):
        decision = following.see(index, [], [NOTHING], dismissed=[FIRST])
    assert decision.gone == {FIRST: "dismissed"}
    assert not decision.life.gone_on(4 + lives.keep_alive)  # the client removed it long before


def test_an_object_that_returns_behind_another_is_held_back() -> None:
    following = Following(replace(RULES, hotstart_delay=0))
    following.see(0, [(0.9, block(0)), (0.9, block(16))])
    following.see(1, None, [NOTHING, block(16)])
    following.see(2, None, [block(0), NOTHING])
    # Both were out of sight, the second one more recently: it hides where they overlap.
    decision = following.see(3, None, [block(16), block(16)])
    assert decision.hidden == [FIRST + 1]
    assert decision.shown[1].max() == HIDDEN_LOGIT
    assert torch.equal(decision.memorized, decision.shown)
    assert decision.life.lives[FIRST + 1].last_occluded == 3


def test_unmatched_objects_hide_from_results_but_not_from_memory() -> None:
    rules = replace(RULES, hides_unmatched=True, keep_alive_start=1, hotstart_delay=0)
    following = Following(rules)
    following.see(0, [(0.9, block(0))])
    decision = following.see(1, [], [block(0)])
    assert decision.hidden == [FIRST]
    assert decision.shown[0].max() == HIDDEN_LOGIT
    assert decision.memorized[0].max() > 0


def test_frames_that_are_not_searched_count_nothing() -> None:
    following = Following()
    following.see(0, [(0.9, block(0))])
    for index in range(1, 6):
        decision = following.see(index, None, [block(0)])
        assert not decision.gone
        assert not decision.found.unmatched


def test_objects_that_left_are_forgotten() -> None:
    following = Following()
    following.see(0, [(0.9, block(0))])
    following.see(1, [], [block(0)])
    following.see(2, [], [block(0)])
    assert following.life.gone == {FIRST: 2}
    for index in range(3, 4 + GONE_FRAMES):
        following.see(index, [])
    assert following.life == Lifecycle(last_frame=3 + GONE_FRAMES)


def concept(phrase: str = "bus", frame_index: int | None = 3, **options: int) -> FollowedConcept:
    exemplars = [Exemplar(Box(1, 2, 3, 4))] if frame_index is not None else []
    return FollowedConcept.of(
        SessionConcept(1, Concept(phrase, exemplars), frame_index, ConceptOptions(**options))
    )  # fmt: skip


def test_boxes_count_on_their_own_frame_only() -> None:
    assert concept().concept_on(3).exemplars
    assert not concept().concept_on(4).exemplars
    assert concept().searches
    assert not concept(phrase="").searches


def test_searched_frames() -> None:
    followed = concept(detect_every=4)
    assert followed.is_due(2)  # nothing was found yet
    followed.life.last_frame = 2
    assert [index for index in range(3, 13) if followed.is_due(index)] == [4, 8, 12]


def test_hotstart_counts_keep_their_proportion_to_the_delay() -> None:
    defaults = rules_of(ConceptOptions(hotstart_delay=15))
    assert (defaults.hotstart_unmatched, defaults.hotstart_duplicate) == (8, 8)
    short = rules_of(ConceptOptions(hotstart_delay=5))
    assert (short.hotstart_delay, short.hotstart_unmatched) == (5, 3)
    assert rules_of(ConceptOptions(hotstart_delay=0)).hotstart_delay == 0
    rare = rules_of(ConceptOptions(hotstart_delay=15, detect_every=4))
    assert (rare.hotstart_delay, rare.hotstart_unmatched) == (15, 2)  # of four searched frames


def test_objects_are_young_after_their_first_frame_only() -> None:
    """An object that was followed for long is not young on the way back, nor before its first frame."""
    following = Following()
    following.see(10, [(0.9, block(0))])
    for index in range(11, 20):
        following.see(index, [(0.9, block(0))], [block(0)])
    for index in range(19, 0, -1):
        assert not following.see(index, [], [block(0)], reverse=True).gone
    for index in range(1, 10):
        assert not following.see(index, [], [block(0)]).gone


def test_an_object_is_not_young_again_in_a_second_pass() -> None:
    following = Following()
    following.see(3, [(0.9, block(0))])
    for index in range(4, 3 + RULES.hotstart_delay + 1):
        following.see(index, [(0.9, block(0))], [block(0)])
    for index in range(12):
        assert not following.see(index, [], [block(0)]).gone


def test_frames_before_an_object_was_found_do_not_count() -> None:
    following = Following()
    following.see(5, [(0.9, block(0))])
    following.see(6, [(0.9, block(0))], [block(0)])
    for index in range(5):  # a second pass, before the hotstart has ended
        assert not following.see(index, [], [block(0)]).gone
    assert not following.see(5, [(0.9, block(0))], [block(0)]).gone
    assert following.life.lives[FIRST].unmatched == 0


def test_occlusions_of_another_pass_do_not_count() -> None:
    following = Following(replace(RULES, hotstart_delay=0))
    following.see(0, [(0.9, block(0)), (0.9, block(16))])
    following.see(1, None, [block(0), NOTHING])
    following.see(2, None, [NOTHING, block(16)])
    assert not following.see(1, None, [block(0), block(0)]).hidden


def test_numbers_are_in_blocks() -> None:
    """One for each concept, without the client's objects; a repeated history gives them again."""
    concepts = SessionConcepts("s")
    assert concepts.first_obj_id(0, [1, 7]) == 1_000_001
    assert concepts.first_obj_id(0, [1_000_050]) == 2_000_001
    concepts.add(FollowedConcept.of(replace(concept().added, first_obj_id=3_000_001)))
    assert concepts.first_obj_id(0, []) == 4_000_001
    assert concepts.first_obj_id(2_000_001, []) == 2_000_001
    assert concepts.numbers(3_500_000)
    assert not concepts.numbers(2_500_000)
    for used in ([], [9_000_001]):
        with pytest.raises(InvalidRequest, match="are in use"):
            concepts.first_obj_id(9_000_001 if used else 3_000_001, used)
    concepts.add(FollowedConcept.of(replace(concept().added, concept_id=2, first_obj_id=999_000_001)))
    assert concepts.first_obj_id(0, []) == 1_000_001


def test_snapshots_keep_all_counters() -> None:
    following = Following()
    following.see(0, [(0.9, block(0)), (0.8, block(16))])
    following.see(1, [(0.9, block(0))], [block(0), block(1)])
    following.see(2, [], [NOTHING, block(16)])
    followed = concept(detect_every=2, hotstart_delay=7)
    followed.life = following.life
    followed.life.gone[5] = 1
    restored = concept_from_proto(concept_to_proto(followed))
    assert restored.life == followed.life
    assert restored.rules == followed.rules
    assert restored.added.concept == followed.added.concept
