"""Selection of memories and object pointers for a frame, checked by frame index and slot."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tracker_svc.memory.archive import SessionArchive
from tracker_svc.memory.frame_state import FrameState, quality
from tracker_svc.memory.memory_bank import MIN_RECENT_FRAMES, MemoryBank, VisitedFrames
from tracker_svc.model.config import MemoryRules

FEATURES = torch.zeros(1)


def state() -> FrameState:
    return FrameState(torch.zeros(1, 2, 2), 0.5, 4.0, torch.zeros(4))


def bank(*, conditioning: list[int], tracked: list[int]) -> MemoryBank:
    made = MemoryBank(max_recent=1000)
    for index in conditioning:
        made.prompt(index, state())
        made.make_conditioning(index, FEATURES)
    for index in tracked:
        made.track(index, state())
        made.set_memory(index, FEATURES)
    return made


def memories(made: MemoryBank, frame: int, *, reverse: bool = False) -> list[tuple[int, int]]:
    return sorted((m.frame_index, m.slot) for m in made.select(frame, reverse=reverse).memories)


def pointers(made: MemoryBank, frame: int, *, reverse: bool = False) -> list[tuple[int, int]]:
    return sorted((p.frame_index, p.frames_before) for p in made.select(frame, reverse=reverse).pointers)


def test_conditioning_frames_and_six_previous_frames() -> None:
    made = bank(conditioning=[0], tracked=list(range(1, 20)))
    assert memories(made, 20) == [(0, 6), (14, 5), (15, 4), (16, 3), (17, 2), (18, 1), (19, 0)]
    assert pointers(made, 20) == [(0, 20), *((i, 20 - i) for i in range(5, 20))]


def test_later_conditioning_frames_give_no_pointers() -> None:
    made = bank(conditioning=[0, 10], tracked=[1, 2])
    assert memories(made, 3) == [(0, 6), (1, 1), (2, 0), (10, 6)]
    assert pointers(made, 3) == [(0, 3), (1, 2), (2, 1)]


def test_missing_frames_leave_slots_empty() -> None:
    made = bank(conditioning=[18], tracked=[10, 15, 19])
    assert memories(made, 20) == [(15, 4), (18, 6), (19, 0)]


def test_reverse_selects_later_frames() -> None:
    made = bank(conditioning=[12], tracked=[11, 10, 9])
    assert memories(made, 8, reverse=True) == [(9, 0), (10, 1), (11, 2), (12, 6)]
    assert pointers(made, 8, reverse=True) == [(9, 1), (10, 2), (11, 3), (12, 4)]
    assert pointers(made, 14, reverse=True) == []


def test_prompt_is_selected_once_memorized() -> None:
    made = bank(conditioning=[0], tracked=[1, 2, 3])
    made.prompt(2, state())
    assert memories(made, 4) == [(0, 6), (1, 2), (2, 1), (3, 0)]
    made.make_conditioning(2, FEATURES)
    # Memories near the prompt are cleared, and their masks are kept for later corrections.
    assert memories(made, 4) == [(0, 6), (2, 6)]
    assert pointers(made, 4) == [(0, 4), (2, 2)]
    assert made.current(3) is not None
    assert 2 not in made.tracked


def test_conditioning_clears_memories_within_seven_frames() -> None:
    made = bank(conditioning=[0], tracked=list(range(1, 30)))
    made.prompt(15, state())
    made.make_conditioning(15, FEATURES)
    kept = [i for i, held in made.tracked.held(range(0, 31)).items() if held.memory]
    assert kept == [*range(1, 8), *range(23, 30)]


def test_second_prompt_replaces_the_first() -> None:
    made = bank(conditioning=[5], tracked=[])
    second = replace(state(), predicted_iou=0.9)
    made.prompt(5, second)
    assert made.current(5) is second
    assert made.conditioning[5].predicted_iou == 0.5
    made.make_conditioning(5, FEATURES)
    assert made.conditioning[5].predicted_iou == 0.9


def test_oldest_tracked_frames_are_evicted() -> None:
    made = MemoryBank()
    made.prompt(0, state())
    made.make_conditioning(0, FEATURES)
    for index in range(1, 100):
        made.visited.add(index, reverse=False)
        made.track(index, state())
        made.set_memory(index, FEATURES)
        made.tracked.spill()
    assert sorted(made.tracked.held(range(0, 201))) == list(range(100 - MIN_RECENT_FRAMES, 100))
    assert list(made.conditioning) == [0]
    assert made.is_forgotten(50)
    assert not made.is_forgotten(99)
    assert not made.is_forgotten(200)
    # All memories and pointers that frame 100 needs are still held.
    assert len(memories(made, 100)) == 7
    assert len(pointers(made, 100)) == 16


def test_a_correction_without_an_archive_keeps_the_frames_before_it() -> None:
    """Detections condition frames in live streams; a prompt makes tracked frames of them again."""
    made = MemoryBank()
    made.prompt(0, state())
    made.make_conditioning(0, FEATURES)
    for index in range(1, 21):
        made.visited.add(index, reverse=False)
        if index == 16:
            made.condition(16, replace(state(), memory_features=FEATURES))
        else:
            made.track(index, state())
        made.tracked.spill()
    made.prompt(18, state())
    made.make_conditioning(18, FEATURES)
    made.release_corrected(kept=0)
    for index in range(21, 24):
        made.visited.add(index, reverse=False)
        made.track(index, state())
        made.tracked.spill()
    held = [i for i in range(9, 24) if not made.is_forgotten(i)]
    assert held == list(range(9, 24))
    assert 16 in made.tracked


def test_clearing_a_prompt_restores_the_tracked_state() -> None:
    made = bank(conditioning=[0], tracked=[1, 2, 3])
    before = made.current(2)
    made.prompt(2, state())
    made.remove_prompt(2)
    assert made.current(2) is before
    assert memories(made, 4) == [(0, 6), (1, 2), (2, 1), (3, 0)]


def test_clearing_a_memorized_prompt_removes_its_memories() -> None:
    made = bank(conditioning=[0, 20], tracked=[*range(1, 20), *range(21, 40)])
    for index in range(40):
        made.visited.add(index, reverse=False)
    made.remove_prompt(20)
    assert made.current(20) is None
    assert not made.is_forgotten(20)
    # Memories near the removed prompt may depend on it, so they are cleared.
    assert [i for i, held in made.tracked.held(range(0, 41)).items() if held.memory] == [
        *range(1, 13), *range(28, 40),
    ]  # fmt: skip
    assert 19 in made.tracked


def test_visited_frames_keep_the_last_direction() -> None:
    visited = VisitedFrames()
    for index in range(1000):
        visited.add(index, reverse=False)
    for index in range(600, 499, -1):
        visited.add(index, reverse=True)
    assert [visited.direction(i) for i in (0, 499, 500, 600, 601, 999, 1000)] == [
        False, False, True, True, False, False, None,
    ]  # fmt: skip
    for index in range(520, 530):
        visited.add(index, reverse=False)
    assert [visited.direction(i) for i in (519, 520, 529, 530)] == [True, False, False, True]
    assert len(visited._runs) == 3
    assert 999 in visited
    assert -1 not in visited


def test_visited_frames_can_be_discarded() -> None:
    visited = VisitedFrames()
    for index in range(10):
        visited.add(index, reverse=False)
    visited.discard(4)
    visited.discard(20)
    assert [i for i in range(12) if i in visited] == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    visited.add(4, reverse=True)
    assert visited.direction(4) is True


RULES = MemoryRules(max_conditioning=4, min_quality=0.01)


def scored(*, in_sight: bool) -> FrameState:
    return FrameState(torch.zeros(1, 2, 2), 0.5, 4.0 if in_sight else -4.0, torch.zeros(4))


def bank_of_sights(
    in_sight: list[bool], *, max_recent: int = 1000, archive: SessionArchive | None = None
) -> MemoryBank:
    """A bank of SAM 3 whose frame 0 is a conditioning frame, followed by tracked frames."""
    made = MemoryBank(0, archive, max_recent=max_recent, rules=RULES)
    made.prompt(0, state())
    made.make_conditioning(0, FEATURES)
    for index, seen in enumerate(in_sight, start=1):
        made.track(index, scored(in_sight=seen))
        made.set_memory(index, FEATURES)
        made.tracked.spill()
    return made


def test_quality_is_zero_out_of_sight() -> None:
    assert quality(0.9, -0.1) == 0
    assert quality(0.9, 0.0) == 0
    assert quality(0.8, 40.0) == pytest.approx(0.8)


def test_at_most_four_conditioning_frames_are_attended_to() -> None:
    """The nearest before, the nearest after, then the others by distance."""
    made = MemoryBank(rules=replace(RULES, min_quality=None))
    for index in (0, 10, 20, 30, 40, 60):
        made.prompt(index, state())
        made.make_conditioning(index, FEATURES)
    assert [i for i, _ in memories(made, 34)] == [10, 20, 30, 40]


def test_frames_out_of_sight_are_passed_over_except_the_frame_before() -> None:
    made = bank_of_sights([True] * 8 + [False] * 12)
    assert memories(made, 21) == [(0, 6), (4, 5), (5, 4), (6, 3), (7, 2), (8, 1), (20, 0)]
    # The oldest selected frame gives no pointer, as in the original.
    assert pointers(made, 21) == [(0, 21), *((9 - rank, rank + 1) for rank in range(7, 0, -1)), (20, 1)]


def test_good_frames_stay_in_memory_for_as_long_as_they_may_be_selected() -> None:
    """Without an archive, an object that is hidden for long keeps its last good frames, and no more."""
    made = bank_of_sights([True] * 40 + [False] * 300, max_recent=MIN_RECENT_FRAMES)
    assert len(made.tracked.in_memory) == MIN_RECENT_FRAMES + 15
    unbounded = bank_of_sights([True] * 40 + [False] * 300)
    assert memories(made, 341) == memories(unbounded, 341)
    assert pointers(made, 341) == pointers(unbounded, 341)


def test_good_frames_of_the_archive_are_selected(tmp_path: Path) -> None:
    """A propagation that starts at an old frame selects as if all states were in memory."""
    sights = [index % 5 == 0 for index in range(1, 120)]
    archive = SessionArchive("session", tmp_path / "a.sqlite", max_bytes=2**30, device=torch.device("cpu"))
    made = bank_of_sights(sights, max_recent=MIN_RECENT_FRAMES, archive=archive)
    unbounded = bank_of_sights(sights)
    for frame in (30, 58, 119):
        for reverse in (False, True):
            assert memories(made, frame, reverse=reverse) == memories(unbounded, frame, reverse=reverse)
            assert pointers(made, frame, reverse=reverse) == pointers(unbounded, frame, reverse=reverse)
    archive.close()
