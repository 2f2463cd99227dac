"""Idle sessions are moved to their archives, and go on as if they had not been."""

import asyncio
import sqlite3
from collections.abc import Iterator

import numpy as np
import pytest

from maskmesh import Point, Prompt, PromptRecord
from tests.tracker_svc.in_process import InProcess
from tracker_svc.sessions import offloading
from tracker_svc.sessions.offloading import is_offloadable, offload, offload_idle
from tracker_svc.sessions.replicator import Replicator
from tracker_svc.sessions.session import Session


@pytest.fixture
def tracker() -> Iterator[InProcess]:
    running = InProcess()
    yield running
    running.close()


def click(frame: int, x: float, obj_id: int = 1) -> PromptRecord:
    return PromptRecord(frame, obj_id, Prompt(points=(Point(x, 90),)), False)


def session_of(tracker: InProcess, session_id: str) -> Session:
    return tracker.servicer.components.sessions.get(session_id)


def test_an_offloaded_session_goes_on_with_the_same_masks(tracker: InProcess) -> None:
    results = []
    for is_offloaded in (False, True):
        name = tracker.create()
        tracker.prompt(name, click(0, 100))
        tracker.prompt(name, click(0, 200, obj_id=2))
        tracker.track(name, range(12), reverse=False)
        if is_offloaded:
            session = session_of(tracker, name)
            tracker.run(asyncio.to_thread(offload, session))
            assert not session.objects[1].bank.tracked.in_memory
        corrected = tracker.prompt(name, click(11, 140))
        tracked = tracker.track(name, range(11, 16), reverse=False)
        results.append((corrected, tracked, tracker.export(name)))
    (first, tracked, exported), (other, tracked_again, exported_again) = results
    assert np.array_equal(first, other)
    for index, objects in tracked.items():
        for obj_id, mask in objects.items():
            assert np.array_equal(mask, tracked_again[index][obj_id])
    assert len(exported) == len(exported_again)


def test_states_that_the_disk_refuses_stay_in_memory(
    tracker: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = tracker.create()
    tracker.prompt(name, click(0, 100))
    tracker.track(name, range(4), reverse=False)
    session = session_of(tracker, name)
    frames = session.objects[1].bank.tracked
    before = dict(frames.in_memory)
    assert session.archive is not None
    monkeypatch.setattr(session.archive, "put", lambda obj_id, index, state: index != 2)
    tracker.run(asyncio.to_thread(offload, session))
    assert dict(frames.in_memory) == {2: before[2]}


def test_what_was_offloaded_is_still_known_as_the_newest(tracker: InProcess) -> None:
    name = tracker.create()
    tracker.prompt(name, click(0, 100))
    tracker.track(name, range(6), reverse=False)
    session = session_of(tracker, name)
    frames = session.objects[1].bank.tracked
    before = dict(frames.in_memory)
    tracker.run(asyncio.to_thread(offload, session))
    assert set(frames.newest_archived()) == set(before)


async def test_an_error_of_one_session_does_not_end_offloading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offloading, "CHECK_SECONDS", 0.001)
    broken, sound = Fake(), Fake()
    done: list[Fake] = []

    def offload_fake(session: Fake) -> None:
        if session is broken:
            raise sqlite3.DatabaseError("file is not a database")
        done.append(session)

    monkeypatch.setattr(offloading, "is_offloadable", lambda session, _: len(done) < 2)
    monkeypatch.setattr(offloading, "offload", offload_fake)
    task = asyncio.ensure_future(offload_idle([broken, sound], 1.0))  # type: ignore[list-item]
    while len(done) < 2:
        await asyncio.sleep(0.001)
    task.cancel()
    assert done == [sound, sound]


class Fake:
    """What :func:`offload_idle` uses of a session."""

    session_id = "s"
    replicator = Replicator()

    def __init__(self) -> None:
        self.lock = asyncio.Lock()


def test_only_idle_sessions_with_an_archive_are_offloaded(tracker: InProcess) -> None:
    stored, live = tracker.create(), tracker.create(live=True)
    for name in (stored, live):
        tracker.prompt(name, click(0, 100))
        tracker.track(name, range(3), reverse=False)
    assert is_offloadable(session_of(tracker, stored), -1)
    assert not is_offloadable(session_of(tracker, stored), 60)
    assert not is_offloadable(session_of(tracker, live), -1)
    session = session_of(tracker, stored)
    with session.propagating():
        assert not is_offloadable(session, -1)
    tracker.run(asyncio.to_thread(offload, session))
    assert not is_offloadable(session, -1)
