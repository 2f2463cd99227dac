"""Property test: replaying the history of a session reproduces it after any sequence of operations."""

from functools import cache
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from maskmesh import Box, Point, Prompt, PromptRecord, wire
from maskmesh.errors import MaskmeshError
from maskmesh.internal.v1 import tracker_pb2
from tests.tracker_svc.in_process import FRAMES, HEIGHT, WIDTH, InProcess

# Removed objects took part in batches, and batches sum products in another order.
TOLERANCE = 5e-3

obj_ids = st.integers(1, 3)
frame_indices = st.integers(0, FRAMES - 1)


@cache
def tracker() -> InProcess:
    return InProcess()


class SessionMachine(RuleBasedStateMachine):
    """A session, and a model of its state: the prompted frames of each object."""

    def __init__(self) -> None:
        super().__init__()
        self.tracker = tracker()
        self.prompted: dict[int, set[int]] = {}

    @initialize()
    def begin(self) -> None:
        self.session_id = self.tracker.create()
        self.prompted = {}

    @rule(obj_id=obj_ids, index=frame_indices, x=st.integers(0, WIDTH), y=st.integers(0, HEIGHT),
          clear=st.booleans())  # fmt: skip
    def prompt(self, obj_id: int, index: int, x: int, y: int, *, clear: bool) -> None:
        positive = (x + y) % 2 == 0  # so that no two points contradict each other
        said = PromptRecord(index, obj_id, Prompt([Point(x, y, positive)]), clear)
        assert self.tracker.prompt(self.session_id, said).shape == (64, 64)
        self.prompted.setdefault(obj_id, set()).add(index)

    @precondition(lambda self: self.prompted)
    @rule(data=st.data())
    def clear(self, data: st.DataObject) -> None:
        obj_id = data.draw(st.sampled_from(sorted(self.prompted)))
        index = data.draw(st.sampled_from(sorted(self.prompted[obj_id])))
        self.prompted[obj_id].remove(index)
        if not self.prompted[obj_id]:
            del self.prompted[obj_id]
        assert self.tracker.clear(self.session_id, index, obj_id) == list(self.prompted)

    @precondition(lambda self: self.prompted)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        obj_id = data.draw(st.sampled_from(sorted(self.prompted)))
        del self.prompted[obj_id]
        assert self.tracker.remove(self.session_id, obj_id) == list(self.prompted)

    @rule(obj_id=obj_ids, index=frame_indices)
    def refuse_what_is_not_there(self, obj_id: int, index: int) -> None:
        before = self.tracker.state(self.session_id)
        if index not in self.prompted.get(obj_id, ()):
            self._refused(lambda: self.tracker.clear(self.session_id, index, obj_id))
        if obj_id not in self.prompted:
            self._refused(lambda: self.tracker.remove(self.session_id, obj_id))
        self._refused(
            lambda: self.tracker.prompt(self.session_id, PromptRecord(index, obj_id, Prompt([Point(999, 1)])))
        )
        assert self.tracker.state(self.session_id) == before

    @rule()
    def reset(self) -> None:
        self.tracker.reset(self.session_id)
        self.prompted = {}

    @rule(obj_id=obj_ids, index=frame_indices, x=st.integers(0, WIDTH - 60), y=st.integers(0, HEIGHT - 50))
    def box(self, obj_id: int, index: int, x: int, y: int) -> None:
        said = PromptRecord(index, obj_id, Prompt(box=Box(x, y, x + 60, y + 50)), clear_previous=True)
        self.tracker.prompt(self.session_id, said)
        self.prompted.setdefault(obj_id, set()).add(index)

    @rule(obj_id=obj_ids, index=frame_indices, x=st.integers(0, WIDTH - 60))
    def mask(self, obj_id: int, index: int, x: int) -> None:
        mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
        mask[40:120, x : x + 60] = True
        self.tracker.prompt(self.session_id, PromptRecord(index, obj_id, Prompt.of(mask=mask)))
        self.prompted.setdefault(obj_id, set()).add(index)

    @rule()
    def expire(self) -> None:
        self.tracker.expire(self.session_id)
        self._refused(lambda: self.tracker.state(self.session_id))
        self.begin()

    @precondition(lambda self: self.prompted)
    @rule(start=frame_indices, count=st.integers(1, FRAMES), reverse=st.booleans())
    def propagate(self, start: int, count: int, *, reverse: bool) -> None:
        frames = (
            range(start, max(start - count, -1), -1) if reverse else range(start, min(start + count, FRAMES))
        )
        found = self.tracker.track(self.session_id, frames, reverse=reverse)
        assert list(found) == list(frames)
        assert all(list(objects) == list(self.prompted) for objects in found.values())

    def teardown(self) -> None:
        if not hasattr(self, "session_id"):
            return
        state = self.tracker.state(self.session_id)
        assert {o.obj_id: set(o.prompted_frames) for o in state.objects} == self.prompted
        assert [o.obj_id for o in state.objects] == list(self.prompted)
        if self.prompted:
            self._compare_with_a_fresh_session(state)
        self.tracker.delete(self.session_id)

    def _compare_with_a_fresh_session(self, state: tracker_pb2.GetSessionResponse) -> None:
        fresh = self.tracker.create()
        self.tracker.replay(fresh, wire.history_from_proto(state.history))
        again = self.tracker.state(fresh)
        assert again.objects == state.objects
        assert again.history == state.history
        for reverse in (False, True):
            frames = range(FRAMES - 1, -1, -1) if reverse else range(FRAMES)
            ours = self.tracker.track(self.session_id, frames, reverse=reverse)
            theirs = self.tracker.track(fresh, frames, reverse=reverse)
            for index in frames:
                for obj_id, expected in theirs[index].items():
                    error = np.abs(ours[index][obj_id] - expected).max() / np.abs(expected).max()
                    assert error < TOLERANCE, (index, obj_id, reverse)
        self.tracker.delete(fresh)

    def _refused(self, call: Any) -> None:
        try:
            call()
        except MaskmeshError:
            return
        raise AssertionError("the call was not refused")


SessionMachine.TestCase.settings = settings.get_profile("state machines")
TestSession = SessionMachine.TestCase
