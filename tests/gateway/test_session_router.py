"""Sessions at their trackers: choice, handover, loss."""

import asyncio

import pytest

from gateway.sessions import session_router
from maskmesh import SessionLost, SessionNotFound, VideoSession
from tests.gateway.in_process import InProcess, image

FRAMES = 6


async def prompted(gateway: InProcess) -> VideoSession:
    session = await gateway.client.create_session()
    await session.append_frames([image(i) for i in range(FRAMES)])
    await session.add_prompt(0, 1, points=[(3, 3)])
    return session


async def test_sessions_start_on_the_least_loaded_tracker(two_trackers: InProcess) -> None:
    for _ in range(4):
        await two_trackers.client.create_session()
    assert [len(tracker.sessions) for tracker in two_trackers.trackers] == [2, 2]


async def test_a_draining_tracker_hands_over_between_calls(two_trackers: InProcess) -> None:
    session = await prompted(two_trackers)
    before = two_trackers.tracker_of(session.session_id)
    before.is_draining = True
    await session.add_prompt(0, 2, points=[(1, 1)])
    after = two_trackers.tracker_of(session.session_id)
    assert after is not before
    assert after.sessions[session.session_id].prompts == {1: 0, 2: 0}
    assert after.sessions[session.session_id].epoch == 2


async def test_a_propagation_continues_on_another_tracker(two_trackers: InProcess) -> None:
    session = await prompted(two_trackers)
    before = two_trackers.tracker_of(session.session_id)
    before.permits = asyncio.Semaphore(2)
    found = []
    async for frame in session.propagate():
        found.append(frame.frame_index)
        if frame.frame_index == 1:
            before.is_draining = True
            before.permits.release()
    assert found == list(range(FRAMES))
    after = two_trackers.tracker_of(session.session_id)
    assert after is not before
    assert after.sessions[session.session_id].tracked == list(range(FRAMES))


async def test_a_killed_tracker_loses_its_sessions_and_the_client_is_told(
    two_trackers: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_router, "RETURN_SECONDS", 0.2)
    session = await prompted(two_trackers)
    before = two_trackers.tracker_of(session.session_id)
    await two_trackers.servers[two_trackers.trackers.index(before)].stop(0)
    before.sessions.clear()
    with pytest.raises(SessionLost):
        await session.add_prompt(0, 2, points=[(1, 1)])
    await session.recover()
    after = two_trackers.tracker_of(session.session_id)
    assert after.sessions[session.session_id].prompts == {1: 0}


async def test_a_session_without_objects_loses_nothing(
    two_trackers: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_router, "RETURN_SECONDS", 0.2)
    session = await two_trackers.client.create_session()
    await session.append_frames([image(0)])
    before = two_trackers.tracker_of(session.session_id)
    await two_trackers.servers[two_trackers.trackers.index(before)].stop(0)
    before.sessions.clear()
    await session.add_prompt(0, 2, points=[(1, 1)])
    after = two_trackers.tracker_of(session.session_id)
    assert after.sessions[session.session_id].prompts == {2: 0}


async def test_a_session_that_a_tracker_has_forgotten_starts_empty(gateway: InProcess) -> None:
    session = await prompted(gateway)
    [tracker] = gateway.trackers
    tracker.sessions.clear()
    with pytest.raises(SessionLost):
        await session.add_prompt(0, 2, points=[(1, 1)])
    assert (await session.get_state()).num_frames == FRAMES
    assert tracker.sessions[session.session_id].prompts == {}


async def test_a_deleted_session_is_gone_everywhere(gateway: InProcess) -> None:
    session = await prompted(gateway)
    [tracker] = gateway.trackers
    await session.delete()
    assert session.session_id not in tracker.sessions
    assert session.session_id in gateway.encoder.unpinned
    with pytest.raises(SessionNotFound):
        await session.get_state()
