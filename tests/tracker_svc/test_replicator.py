"""Replication of a session that ends while its changes are being written."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from maskmesh.storage.session_record import Owner, SessionDelta, WriteResult
from tests.tracker_svc.in_process import InProcess
from tracker_svc.memory.frame_state import FrameState
from tracker_svc.sessions.replicator import Replicator
from tracker_svc.sessions.session import Session
from tracker_svc.sessions.session_replicator import SessionReplicator


class BlockedStore:
    """A session store whose writes never end."""

    async def write(self, *_: Any) -> None:
        await asyncio.Event().wait()


@pytest.fixture
def tracker() -> Iterator[InProcess]:
    running = InProcess()
    yield running
    running.close()


async def replicate(session: Session) -> SessionReplicator:
    return SessionReplicator(
        BlockedStore(),  # type: ignore[arg-type]
        session,
        Owner("a:1", 1),
        model_id="test",
        budget_bytes=2**20,
    )


def test_closing_ends_waits_for_the_store(tracker: InProcess) -> None:
    session = tracker.servicer.components.sessions.get(tracker.create())

    async def close_while_flushing() -> None:
        replicator = await replicate(session)
        flushing = asyncio.ensure_future(replicator.flush())
        await asyncio.sleep(0.01)
        assert not flushing.done()
        await replicator.close()
        await asyncio.wait_for(flushing, 10)

    tracker.run(close_while_flushing())


def test_changes_of_an_ended_session_wait_for_no_writer(tracker: InProcess) -> None:
    session_id = tracker.create()
    session = tracker.servicer.components.sessions.get(session_id)
    session.replicator = tracker.run(replicate(session))
    tracker.delete(session_id)
    assert type(session.replicator) is Replicator

    async def change() -> None:
        session.replicator.enqueue()
        await asyncio.wait_for(session.replicator.flush(), 10)

    tracker.run(change())


class RecordingStore:
    """A session store that has the fields of one session."""

    def __init__(self) -> None:
        self.fields: dict[str, bytes] = {}

    async def write(self, session_id: str, owner: Owner, ttl: float, delta: SessionDelta) -> WriteResult:
        self.fields |= delta.fields
        for name in delta.deleted:
            self.fields.pop(name, None)
        return WriteResult.DONE


def test_released_conditioning_frames_stay_in_the_store(tracker: InProcess) -> None:
    """They go to the archive without having been in memory as tracked frames."""
    session = tracker.servicer.components.sessions.get(tracker.create())
    store = RecordingStore()

    async def replicate_release() -> None:
        replicator = SessionReplicator(
            store,  # type: ignore[arg-type]
            session, Owner("a:1", 1), model_id="test", budget_bytes=2**20,
        )  # fmt: skip
        bank = session.objects.setdefault(5, session.make(5)).bank
        bank.condition(0, FrameState(torch.zeros(1, 4, 4), 1.0, 1.0, None))
        replicator.enqueue()
        await replicator.flush()
        assert set(store.fields) == {"5.0.conditioning"}
        bank.release_corrected(kept=None)
        replicator.enqueue()
        await replicator.flush()
        await replicator.close()

    tracker.run(replicate_release())
    assert set(store.fields) == {"5.0.tracked"}
