"""The session archive returns states from disk bit for bit."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from maskmesh import SessionNotFound
from tracker_svc.memory.archive import SessionArchive
from tracker_svc.memory.frame_state import FrameState, Held
from tracker_svc.memory.memory_bank import MemoryBank
from tracker_svc.memory.memory_horizon import held_states
from tracker_svc.memory.tracked_frames import TrackedFrames
from tracker_svc.memory.tracked_object import TrackedObject
from tracker_svc.model.config import MemoryRules


def new_archive(path: Path, *, max_bytes: int = 2**20) -> SessionArchive:
    return SessionArchive("a session", path, max_bytes=max_bytes, device=torch.device("cpu"))


def state(seed: int, *, memory: bool = True, pointer: bool = True) -> FrameState:
    random = torch.Generator().manual_seed(seed)
    return FrameState(
        low_res_masks=torch.randn(1, 8, 8, generator=random),
        predicted_iou=seed / 7,
        object_score_logit=-seed / 3,
        object_pointer=torch.randn(16, generator=random) if pointer else None,
        memory_features=torch.randn(4, 2, 2, generator=random).bfloat16() if memory else None,
    )


def assert_equal(actual: FrameState | None, expected: FrameState) -> None:
    assert actual is not None
    assert actual.predicted_iou == expected.predicted_iou
    assert actual.object_score_logit == expected.object_score_logit
    for name in ("low_res_masks", "object_pointer", "memory_features"):
        ours, theirs = getattr(actual, name), getattr(expected, name)
        assert (ours is None) is (theirs is None), name
        if theirs is not None:
            assert ours.dtype is theirs.dtype
            assert torch.equal(ours, theirs), name


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[SessionArchive]:
    made = SessionArchive(
        "a session", tmp_path / "archive.sqlite", max_bytes=2**20, device=torch.device("cpu")
    )
    yield made
    made.close()


def test_states_round_trip(archive: SessionArchive) -> None:
    for index in range(5):
        archive.put(1, index, state(index))
        archive.put(2, index, state(100 + index, memory=index % 2 == 0, pointer=index > 2))
    for index in range(5):
        assert_equal(archive.get(1, index), state(index))
        assert_equal(archive.get(2, index), state(100 + index, memory=index % 2 == 0, pointer=index > 2))
    assert archive.get(1, 7) is None
    assert archive.get(3, 0) is None
    assert archive.held(2, range(1, 5)) == {
        1: Held(pointer=False, memory=False),
        2: Held(pointer=False, memory=True),
        3: Held(pointer=True, memory=False),
        4: Held(pointer=True, memory=True),
    }
    pointer = archive.pointer(1, 3)
    assert pointer is not None
    assert torch.equal(pointer, state(3).object_pointer)  # type: ignore[arg-type]
    assert archive.oldest(2) == 0
    assert archive.oldest(9) is None


def test_put_replaces_an_existing_frame(archive: SessionArchive) -> None:
    archive.put(1, 0, state(1))
    archive.put(1, 0, state(2))
    assert_equal(archive.get(1, 0), state(2))


def test_clear_memories_and_delete(archive: SessionArchive) -> None:
    for index in range(10):
        archive.put(1, index, state(index))
        archive.put(2, index, state(index))
    archive.clear_memories(1, 3, 5)
    assert [i for i, held in archive.held(1, range(0, 10)).items() if not held.memory] == [3, 4, 5]
    kept = archive.get(1, 4)
    assert kept is not None
    assert torch.equal(kept.low_res_masks, state(4).low_res_masks)
    archive.delete(1, 0)
    archive.delete(2)
    assert archive.oldest(1) == 1
    assert archive.held(2, range(0, 10)) == {}


def test_good_frames_are_found_nearest_first_without_reading_the_others(archive: SessionArchive) -> None:
    """An object that is out of sight for long costs nothing."""
    seen = {3, 8, 9, 400}
    for index in range(500):
        visible = FrameState(torch.zeros(1, 2, 2), 0.9, 5.0 if index in seen else -5.0, None)
        archive.put(1, index, visible)
    archive.put(1, 450, FrameState(torch.zeros(1, 2, 2), 0.001, 0.01, None))  # in sight, of no worth
    before = partial(archive.good_frames, min_quality=0.01, descending=True)
    assert before(1, 1, 499, count=15) == [400, 9, 8, 3]
    assert before(1, 1, 399, count=2) == [9, 8]
    assert archive.good_frames(1, 4, 499, min_quality=0.01, descending=False, count=15) == [8, 9, 400]
    assert before(2, 1, 499, count=15) == []
    assert archive.good_frames(1, 1, 499, min_quality=0.95, descending=True, count=15) == []


def test_size_is_bounded_and_oldest_states_are_evicted(tmp_path: Path) -> None:
    path = tmp_path / "archive.sqlite"
    archive = new_archive(path, max_bytes=2**18)
    large = FrameState(torch.randn(1, 64, 64), 0.5, 1.0, torch.randn(256))
    for index in range(60):
        archive.put(1, index, large)
    held = archive.held(1, range(0, 101))
    assert 5 < len(held) < 20
    assert sorted(held) == list(range(60 - len(held), 60))
    assert path.stat().st_size <= 2**18 + 2**15
    archive.close()


def test_close_deletes_the_archive(tmp_path: Path) -> None:
    archive = new_archive(tmp_path / "a.sqlite")
    assert not list(tmp_path.iterdir())
    archive.put(1, 0, state(0))
    assert list(tmp_path.iterdir())
    archive.close()
    assert not list(tmp_path.iterdir())
    # Work in progress when the session ends gets SessionNotFound and leaves no file.
    archive.put(1, 1, state(1))
    for read in (lambda: archive.get(1, 1), lambda: archive.held(1, range(0, 10)), lambda: archive.oldest(1)):
        with pytest.raises(SessionNotFound):
            read()
    assert not list(tmp_path.iterdir())


def test_old_frames_spill_to_disk(archive: SessionArchive) -> None:
    tracked = TrackedFrames(1, archive, max_recent=3)
    for index in range(10):
        tracked.put(index, state(index))
        tracked.spill()
    assert tracked.recent(6) is None
    assert tracked.recent(7) is not None
    for index in range(10):
        assert_equal(tracked.get(index), state(index))
    assert sorted(tracked.held(range(0, 21))) == list(range(10))
    assert 4 in tracked
    assert tracked.oldest() == 0
    # Tracked again: the newer state in memory takes precedence over the archived one.
    tracked.put(2, state(50))
    assert_equal(tracked.get(2), state(50))
    tracked.clear_memories(2, 8)
    assert sorted(i for i, held in tracked.held(range(0, 10)).items() if not held.memory) == [
        2,
        3,
        4,
        5,
        6,
        7,
        8,
    ]
    tracked.discard(2)
    assert 2 not in tracked


def test_a_long_absence_is_not_read(archive: SessionArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    """Selection by quality looks at the frames that it selects, however far back they are."""
    looked_at: list[int] = []
    held = SessionArchive.held

    def watched(self: SessionArchive, obj_id: int, frames: Collection[int]) -> dict[int, Held]:
        looked_at.append(len(frames))
        return held(self, obj_id, frames)

    bank = MemoryBank(1, archive, rules=MemoryRules(min_quality=0.01))
    good, hidden = replace(state(1), object_score_logit=5.0), state(1)
    for index in range(1, 200):
        bank.tracked.put(index, good if index < 20 else hidden)
        bank.tracked.spill()
    monkeypatch.setattr(SessionArchive, "held", watched)
    selection = bank.select(200)
    assert len(selection.memories) > 0
    assert max(looked_at, default=0) <= 16


def test_a_disk_that_refuses_everything(tmp_path: Path) -> None:
    """The session goes on without an archive: nothing raises, and nothing is found."""
    archive = new_archive(tmp_path / "missing" / "archive.sqlite")
    assert not archive.put(1, 0, state(0))
    archive.clear_memories(1, 0, 9)
    archive.delete(1)
    assert archive.get(1, 0) is None
    assert not archive.held(1, range(3))
    archive.close()


@pytest.mark.parametrize("change", ["delete", "clear"])
def test_outdated_states_are_never_read(archive: SessionArchive, change: str) -> None:
    """A disk that refuses a change makes the archive empty; later states are archived again."""
    for index in range(3):
        assert archive.put(1, index, state(index))
    assert archive._connection is not None
    archive._connection.execute("PRAGMA query_only = 1")
    if change == "delete":
        archive.delete(1, 2)
    else:
        archive.clear_memories(1, 1, 2)
    assert not archive.frames(1)
    assert archive.put(1, 5, state(5))
    assert_equal(archive.get(1, 5), state(5))


def test_a_frame_is_repeated_only_if_all_its_states_are_held(archive: SessionArchive) -> None:
    objects = [TrackedObject(obj_id, MemoryBank(obj_id, archive)) for obj_id in (1, 2)]
    for obj in objects:
        obj.bank.visited.add(4, reverse=False)
        obj.bank.tracked.put(4, state(obj.obj_id))
    assert set(held_states(objects, 4)) == {1, 2}
    assert not held_states(objects, 5)
    objects[0].bank.tracked.discard(4)
    assert not held_states(objects, 4)
