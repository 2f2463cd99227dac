"""Following concepts on the device: batches over sessions, reconditioning, and its bounds.

The model is the small untrained SAM 3, so detections are given by hand where they matter.
"""

from functools import cache

import pytest
import torch

from maskmesh.concepts import Concept, ConceptOptions, SessionConcept
from maskmesh.nn.image_features import TrunkFeatures
from maskmesh.telemetry import StageRecorder
from maskmesh.types import Point, Prompt
from tracker_svc.compute.concepts import ConceptFinder, Search
from tracker_svc.compute.step import Frame, Step
from tracker_svc.compute.tokenizer import PhraseTokenizer
from tracker_svc.compute.tracker import Tracker
from tracker_svc.following.decision import Decision, Detected, Tracks, decide
from tracker_svc.following.followed_concept import FollowedConcept
from tracker_svc.following.following_step import Following
from tracker_svc.following.lifecycle import Lifecycle
from tracker_svc.memory.frame_state import FrameState
from tracker_svc.memory.memory_bank import RECENT_POINTERS, MemoryBank
from tracker_svc.memory.tracked_object import TrackedObject
from tracker_svc.model import weights
from tracker_svc.model.config import PRESETS

OPTIONS = ConceptOptions(score_threshold=0.9, hotstart_delay=0)


@cache
def tracker() -> Tracker:
    model = weights.build(PRESETS["sam3-test"], None)
    assert model.detector is not None
    return Tracker(model, finder=ConceptFinder(model.detector, PhraseTokenizer.of_bytes(context_length=32)))


@cache
def frame(index: int) -> Frame:
    random = torch.Generator().manual_seed(index)
    size = tracker().model.embedding_size
    return Frame(TrunkFeatures(torch.randn(1, 64, size, size, generator=random)), 320, 200)


def make(obj_id: int) -> TrackedObject:
    return TrackedObject(obj_id, MemoryBank(obj_id, rules=tracker().model.memory_rules))


def following(phrase: str = "bus") -> Following:
    concept = FollowedConcept.of(SessionConcept(1, Concept(phrase), None, OPTIONS, 100))
    return Following(concepts=[concept], room=3, make=make)


def test_searches_of_several_sessions_are_one_batch() -> None:
    """Concepts on different frames are computed together, with the results of each alone."""
    model = tracker().model
    assert model.detector is not None
    finder = ConceptFinder(model.detector, PhraseTokenizer.of_bytes(context_length=32))
    searches = [
        Search(frame(index), Concept(phrase), 0.9, StageRecorder())
        for index, phrase in ((1, "bus"), (2, "cup"), (2, "a red bus"))
    ]
    together = list(finder.search(searches))
    sizes = [r.attributes.get("maskmesh.batch.size") for r in searches[1].recorder.records]
    assert 3 in sizes
    for search, found in zip(searches, together, strict=True):
        [alone] = finder.search([search])
        assert found.scores == pytest.approx(alone.scores, abs=1e-5)
        assert found.masks is not None
        assert alone.masks is not None
        assert torch.allclose(found.masks, alone.masks, atol=1e-3)


def test_two_sessions_follow_in_one_step() -> None:
    follower = tracker().follower
    assert follower is not None
    steps = [
        Step([], 0, frame(index), StageRecorder(), following=following(phrase))
        for index, phrase in ((1, "bus"), (2, "cup"))
    ]
    states: list[dict[int, FrameState]] = [{}, {}]
    follower.follow(steps, states)
    for step, states_of_step in zip(steps, states, strict=True):
        assert step.following is not None
        assert [obj.obj_id for obj in step.following.found] == list(states_of_step)
        assert states_of_step


def tracked_step(obj: TrackedObject, index: int, decision: Decision | None = None) -> Step:
    """Track an object to a frame, and decide about it."""
    step = Step([obj], index, frame(index), StageRecorder(), following=following())
    [states] = tracker().track([step])
    follower = tracker().follower
    assert follower is not None
    assert step.following is not None
    [concept] = step.following.concepts
    if decision is None:
        mask = states[obj.obj_id].low_res_masks
        decision = decide(
            Tracks(obj_ids=[obj.obj_id], logits=mask, object_score_logits=[5.0]),
            Detected([0.95], mask), life_of(obj), concept.rules,
            frame_index=index, next_id=100, room=0,
        )  # fmt: skip
    follower.apply(step, concept, [obj], decision, states)
    tracker().memorize_tracked([step])
    return step


def life_of(obj: TrackedObject) -> Lifecycle:
    life = Lifecycle()
    life.add(0, [obj.obj_id], FollowedConcept.of(SessionConcept(1, Concept("x"), None, OPTIONS)).rules)
    return life


def found_object() -> TrackedObject:
    """An object that the concept finds on frame 0."""
    step = Step([], 0, frame(0), StageRecorder(), following=following())
    follower = tracker().follower
    assert follower is not None
    assert step.following is not None
    follower.find(step.following, 0, frame(0), StageRecorder())
    obj = step.following.found[0]
    obj.bank.visited.add(0, reverse=False)
    return obj


def test_a_found_object_is_conditioned_by_its_detection() -> None:
    obj = found_object()
    state = obj.bank.conditioning[0]
    assert state.memory_features is not None
    assert state.object_pointer is not None
    assert obj.concept_id == 1
    assert state.concept_score == obj.concept_score > 0.9


def test_sure_detections_prompt_their_object_again() -> None:
    """The frame conditions later ones, with the pointer of the detection and the tracked mask."""
    obj = found_object()
    for index in range(1, 16):
        tracked_step(obj, index)
        assert index not in obj.bank.conditioning
    tracked_step(obj, 16)
    state = obj.bank.conditioning[16]
    assert state.memory_features is not None
    assert 16 not in obj.bank.tracked
    other = found_object()
    for index in range(1, 17):
        nothing = Detected([], torch.zeros(0, *state.low_res_masks.shape[1:]))
        step = Step([other], index, frame(index), StageRecorder(), following=following())
        [states] = tracker().track([step])
        assert step.following is not None
        [concept] = step.following.concepts
        decision = decide(
            Tracks(obj_ids=[100], logits=states[100].low_res_masks, object_score_logits=[5.0]),
            nothing, life_of(other), concept.rules, frame_index=index, next_id=101, room=0,
        )  # fmt: skip
        follower = tracker().follower
        assert follower is not None
        follower.apply(step, concept, [other], decision, states)
        tracker().memorize_tracked([step])
    unprompted = other.bank.tracked.get(16)
    assert unprompted is not None
    assert torch.equal(unprompted.low_res_masks, state.low_res_masks)
    assert unprompted.memory_features is not None
    assert torch.equal(unprompted.memory_features, state.memory_features)
    assert unprompted.object_pointer is not None
    assert state.object_pointer is not None
    assert not torch.equal(unprompted.object_pointer, state.object_pointer)


def test_conditioning_frames_are_bounded() -> None:
    """Of those that detections make, the nearest, those of recent pointers and the first one stay."""
    obj = found_object()
    limit = tracker().model.memory_rules.max_conditioning
    assert limit is not None
    indices = range(0, 60, 3)
    for index in indices[1:]:
        obj.bank.condition(index, obj.bank.conditioning[0])
        obj.bank.release_detected(index, kept=obj.found_frame)
        held = obj.bank.conditioning
        assert 0 in held
        recent = {i for i in indices if index - RECENT_POINTERS <= i <= index}
        assert len(recent) > limit or index < RECENT_POINTERS
        assert set(held) == {0, *recent}


def test_a_correction_releases_what_was_detected_along_the_wrong_track() -> None:
    obj = found_object()
    for index in (16, 32):
        obj.bank.condition(index, obj.bank.conditioning[0])
    state = obj.bank.conditioning[0]
    obj.bank.prompt(16, state)
    obj.prompts[16] = Prompt([Point(1, 1)])
    tracker().memorize_prompted(Step([obj], 16, frame(16), StageRecorder()))
    assert set(obj.bank.conditioning) == {0, 16}
    assert obj.bank.detected == {0}


def test_a_prompt_that_was_not_memorized_leaves_the_detection() -> None:
    obj = found_object()
    obj.bank.prompt(0, obj.bank.conditioning[0])
    assert obj.bank.is_conditioned_without(0)
    obj.bank.remove_prompt(0)
    assert 0 in obj.bank.conditioning
    obj.bank.prompt(0, obj.bank.conditioning[0])
    tracker().memorize_prompted(Step([obj], 0, frame(0), StageRecorder()))
    assert not obj.bank.is_conditioned_without(0)  # the detection is replaced


def test_a_failed_step_is_decided_again() -> None:
    """The device computes the items of a failed batch one by one, with what they had before."""
    follower = tracker().follower
    assert follower is not None
    step = Step([], 0, frame(1), StageRecorder(), following=following())
    assert step.following is not None
    for _ in range(2):
        states: dict[int, FrameState] = {}
        follower.follow([step], [states])
        assert [obj.obj_id for obj in step.following.found] == list(states) == [100]
    assert step.following.room_left == 2
