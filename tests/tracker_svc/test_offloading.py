"""Idle sessions are moved to their archives, and go on as if they had not been."""

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest

from maskmesh import Point, Prompt, PromptRecord
from tests.tracker_svc.in_process import InProcess
from tracker_svc.sessions.offloading import is_offloadable, offload
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
