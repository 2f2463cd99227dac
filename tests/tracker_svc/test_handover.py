"""Sessions that move while calls are in progress: nothing that was answered is lost."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from maskmesh import InvalidRequest, Point, Prompt, SessionNotFound, Unavailable, wire
from maskmesh.internal.v1 import tracker_pb2
from tests.tracker_svc.in_process import InProcess, ref


@pytest.fixture
def tracker() -> Iterator[InProcess]:
    running = InProcess()
    yield running
    running.close()


def prompting(tracker: InProcess, session_id: str, obj_id: int) -> Coroutine[Any, Any, Any]:
    prompt = Prompt([Point(40.0, 50.0)])
    request = tracker_pb2.AddPromptRequest(
        epoch=1,
        session_id=session_id,
        frame_index=0,
        obj_id=obj_id,
        prompt=wire.prompt_to_proto(prompt),
        embedding=wire.embedding_ref_to_proto(ref(0)),
    )
    return tracker.servicer.AddPrompt(request, None)


def test_a_change_that_waits_for_an_export_is_refused(tracker: InProcess) -> None:
    """The other tracker would not have it; the gateway repeats it there."""
    session_id = tracker.create(epoch=1)
    tracker.run(prompting(tracker, session_id, 1))

    async def race() -> list[tracker_pb2.ExportSessionResponse]:
        session = tracker.servicer.components.sessions.get(session_id)
        request = tracker_pb2.ExportSessionRequest(session_id=session_id, epoch=1)

        async def export() -> list[tracker_pb2.ExportSessionResponse]:
            return [part async for part in tracker.servicer.ExportSession(request, None)]

        async with session.lock:
            exporting = asyncio.ensure_future(export())
            await asyncio.sleep(0.01)
            change = asyncio.ensure_future(prompting(tracker, session_id, 2))
            await asyncio.sleep(0.05)
        parts = await exporting
        with pytest.raises(Unavailable) as caught:
            await change
        assert "draining" in caught.value.metadata
        return parts

    parts = tracker.run(race())
    assert [o.obj_id for o in parts[0].session.objects] == [1]
    assert tracker.export(session_id), "a hand-over that failed is repeated"


@pytest.mark.parametrize("method", ["prompt", "remove"])
def test_a_change_of_a_session_that_has_a_new_owner_is_not_answered(tracker: InProcess, method: str) -> None:
    """A call with a newer epoch ends the session here while its change is computed."""
    session_id = tracker.create(epoch=1)
    tracker.run(prompting(tracker, session_id, 1))
    worker = tracker.servicer.components.worker
    run = worker.run

    async def overtaken(work: Callable[[], Any], **options: Any) -> Any:
        result = await run(work, **options)
        with pytest.raises(SessionNotFound):
            await tracker.servicer._registry.find(session_id, 2)
        return result

    worker.run = overtaken  # type: ignore[method-assign, assignment]
    request = tracker_pb2.RemoveObjectRequest(session_id=session_id, epoch=1, obj_id=1)
    remove = tracker.servicer.RemoveObject(request, None)
    change = prompting(tracker, session_id, 2) if method == "prompt" else remove
    with pytest.raises(SessionNotFound, match="has ended"):
        tracker.run(change)
    if method == "prompt":
        remove.close()


def test_a_hand_over_whose_response_was_lost_is_repeated(tracker: InProcess) -> None:
    session_id = tracker.create(epoch=1)
    tracker.run(prompting(tracker, session_id, 1))
    parts = tracker.export(session_id)
    tracker.delete(session_id)
    for _ in range(2):
        tracker.import_session(parts, epoch=2)
    assert [o.obj_id for o in tracker.state(session_id).objects] == [1]
    with pytest.raises(InvalidRequest, match="in use"):
        tracker.import_session(parts, epoch=1)


def test_a_session_whose_creation_was_not_heard_of_is_created_again(tracker: InProcess) -> None:
    session_id = tracker.create(epoch=2)
    tracker.create(session_id, epoch=2)
    with pytest.raises(InvalidRequest, match="in use"):
        tracker.create(session_id, epoch=1)
