"""Property test: a session gives the same results however often it is handed over to another tracker."""

import asyncio
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from maskmesh import Point, Prompt, PromptRecord
from tests.redis_server import RedisServer, needs_redis
from tests.tracker_svc.in_process import FRAMES, HEIGHT, WIDTH, InProcess

obj_ids = st.integers(1, 3)
frame_indices = st.integers(0, FRAMES - 1)


@cache
def trackers() -> tuple[InProcess, InProcess, InProcess]:
    """One tracker that keeps its sessions, and two trackers that hand a session over to each other."""
    return InProcess(), InProcess(), InProcess()


class HandoverMachine(RuleBasedStateMachine):
    """The same operations in two sessions; one of the sessions is handed over."""

    def __init__(self) -> None:
        super().__init__()
        self.settled, self.here, self.there = self.make()
        self.prompted: dict[int, set[int]] = {}

    def make(self) -> tuple[InProcess, InProcess, InProcess]:
        return trackers()

    @initialize(live=st.booleans())
    def begin(self, *, live: bool) -> None:
        self.session_id = self.settled.create(live=live)
        self.is_live = live
        self.here.create(self.session_id, epoch=1, live=live)
        self.next_live = 0

    @rule(obj_id=obj_ids, index=frame_indices, x=st.integers(0, WIDTH), y=st.integers(0, HEIGHT),
          clear=st.booleans())  # fmt: skip
    def prompt(self, obj_id: int, index: int, x: int, y: int, *, clear: bool) -> None:
        if self.is_live:
            index = max(self.next_live - 1, 0)
        said = PromptRecord(index, obj_id, Prompt([Point(x, y, (x + y) % 2 == 0)]), clear)
        found = [tracker.prompt(self.session_id, said) for tracker in (self.settled, self.here)]
        assert np.array_equal(found[0], found[1])
        self.prompted.setdefault(obj_id, set()).add(index)

    @precondition(lambda self: self.prompted)
    @rule(data=st.data())
    def clear(self, data: st.DataObject) -> None:
        obj_id = data.draw(st.sampled_from(sorted(self.prompted)))
        index = data.draw(st.sampled_from(sorted(self.prompted[obj_id])))
        self.prompted[obj_id].remove(index)
        if not self.prompted[obj_id]:
            del self.prompted[obj_id]
        for tracker in (self.settled, self.here):
            assert tracker.clear(self.session_id, index, obj_id) == list(self.prompted)

    @precondition(lambda self: self.prompted)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        obj_id = data.draw(st.sampled_from(sorted(self.prompted)))
        del self.prompted[obj_id]
        for tracker in (self.settled, self.here):
            assert tracker.remove(self.session_id, obj_id) == list(self.prompted)

    @rule()
    def reset(self) -> None:
        for tracker in (self.settled, self.here):
            tracker.reset(self.session_id)
        self.prompted = {}

    @precondition(lambda self: self.prompted)
    @rule(start=frame_indices, count=st.integers(1, FRAMES), reverse=st.booleans())
    def propagate(self, start: int, count: int, *, reverse: bool) -> None:
        frames = (
            range(start, max(start - count, -1), -1) if reverse else range(start, min(start + count, FRAMES))
        )
        if self.is_live:
            frames, reverse = range(self.next_live, self.next_live + min(count, 5)), False
            self.next_live = frames.stop
        found = [t.track(self.session_id, frames, reverse=reverse) for t in (self.settled, self.here)]
        assert list(found[0]) == list(found[1])
        for index, objects in found[0].items():
            assert list(objects) == list(found[1][index])
            for obj_id, expected in objects.items():
                assert np.array_equal(found[1][index][obj_id], expected), (index, obj_id)

    @rule()
    def move(self) -> None:
        epoch = self.here.epochs[self.session_id] + 1
        self.hand_over(epoch)
        self.here, self.there = self.there, self.here

    def hand_over(self, epoch: int) -> None:
        self.there.import_session(self.here.export(self.session_id), epoch=epoch)
        self.here.delete(self.session_id)

    def teardown(self) -> None:
        if not hasattr(self, "session_id"):
            return
        if not self.is_live and self.prompted:
            self.propagate(0, FRAMES, reverse=False)
            self.propagate(FRAMES - 1, FRAMES, reverse=True)
        assert self.here.state(self.session_id) == self.settled.state(self.session_id)
        for tracker in (self.settled, self.here):
            tracker.delete(self.session_id)


_SETTINGS = settings.get_profile("state machines")
HandoverMachine.TestCase.settings = _SETTINGS
TestHandover = HandoverMachine.TestCase


@pytest.fixture(scope="module")
def store() -> Iterator[None]:
    """A real session store for KeptMachine."""
    loop = asyncio.new_event_loop()
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        loop.run_until_complete(server.start())
        KeptMachine.url = server.url
        yield
        for tracker in kept_trackers(server.url):
            tracker.close()
        loop.run_until_complete(server.stop())
    loop.close()


@cache
def kept_trackers(url: str) -> tuple[InProcess, InProcess, InProcess]:
    return trackers()[0], InProcess(url), InProcess(url)


class KeptMachine(HandoverMachine):
    """The next owner loads the session from a store to which each step was replicated."""

    url = ""

    def make(self) -> tuple[InProcess, InProcess, InProcess]:
        return kept_trackers(self.url)

    def hand_over(self, epoch: int) -> None:
        self.here.flush(self.session_id)
        with redis.Redis.from_url(self.url) as client:
            client.hset(f"maskmesh:1:{{{self.session_id}}}:session", "epoch", epoch)
        self.there.epochs[self.session_id] = epoch
        assert self.there.state(self.session_id).revision >= 0

    def teardown(self) -> None:
        super().teardown()
        if self.url:
            with redis.Redis.from_url(self.url) as client:
                client.flushall()


KeptMachine.TestCase.settings = _SETTINGS


@needs_redis
@pytest.mark.usefixtures("store")
class TestKept(KeptMachine.TestCase):  # type: ignore[misc, valid-type]
    """Runs KeptMachine with a Redis server."""
