"""The sessions that this tracker owns: lookup with ownership epochs, take-over from the store, export and
import.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence

import torch

from maskmesh.aio import SingleFlight, TaskSet
from maskmesh.errors import SessionNotFound, StaleEpoch, Unavailable
from maskmesh.internal.v1 import snapshot_pb2
from maskmesh.storage.redis_store import StoreDown
from maskmesh.storage.session_record import Owner
from maskmesh.storage.session_store import SessionStore
from tracker_svc.sessions.replicator import Replicator
from tracker_svc.sessions.session import Session
from tracker_svc.sessions.session_delta import read_stored
from tracker_svc.sessions.session_replicator import SessionReplicator
from tracker_svc.sessions.session_table import SessionTable
from tracker_svc.sessions.snapshot import (
    Restorer,
    archived_states,
    check_snapshot,
    response_to_proto,
    session_to_proto,
    state_to_proto,
    states_in_memory,
)

logger = logging.getLogger(__name__)


class SessionRegistry:
    """Finds sessions and checks that this tracker owns them.  Used on one event loop only.

    A tracker owns a session during one epoch.  With a store, every change is replicated before its response
    is sent, and the epoch is compared with the store's before every result is sent.
    """

    def __init__(
        self,
        sessions: SessionTable,
        store: SessionStore | None,
        *,
        address: str,
        model_id: str,
        device: torch.device,
        budget_bytes: int,
    ) -> None:
        """``address`` is this tracker's; ``budget_bytes`` bounds a session's archived states in the
        store.
        """
        self._sessions = sessions
        self._store = store
        self._address = address
        self._model_id = model_id
        self._device = device
        self._budget_bytes = budget_bytes
        self._loading: SingleFlight[tuple[str, int], Session] = SingleFlight()
        self._closing = TaskSet()
        sessions.on_end = self._on_end

    def own(self, session: Session, epoch: int, *, is_stored: bool = False) -> None:
        """Take ownership of a session; ``is_stored`` is whether the store has its current state."""
        session.epoch = epoch
        if self._store is not None and epoch:
            session.replicator = SessionReplicator(
                self._store,
                session,
                Owner(self._address, epoch),
                model_id=self._model_id,
                budget_bytes=self._budget_bytes,
                is_stored=is_stored,
            )

    def replace_older(self, session_id: str, epoch: int) -> None:
        """End a session of an earlier attempt to make it here, whose response the gateway did not receive."""
        session = self._sessions.find_unrenewed(session_id)
        if session is not None and 0 < session.epoch <= epoch:
            self._sessions.end(session_id)

    async def find(self, session_id: str, epoch: int) -> Session:
        """Find a session and renew its lease; it is loaded from the store if this tracker does not have it.

        Raises SessionNotFound, StaleEpoch if the caller's or this tracker's epoch is outdated, Unavailable
        if the store is down, and the errors of :func:`check_snapshot`.
        """
        session = self._sessions.find_unrenewed(session_id)
        if session is not None and epoch < session.epoch:
            raise StaleEpoch("the session has a newer owner", session_id=session_id, epoch=session.epoch)
        if session is not None and epoch == session.epoch and not session.replicator.is_stale:
            session.renew()
            return session
        if session is not None:
            logger.info("session %s had another owner in between", session_id)
            self._sessions.end(session_id)
        if self._store is None:
            raise SessionNotFound("there is no such session", session_id=session_id)
        store = self._store
        return await self._loading.run((session_id, epoch), lambda: self._load(store, session_id, epoch))

    async def export(
        self, session: Session
    ) -> AsyncIterator[snapshot_pb2.SessionSnapshot | snapshot_pb2.FrameState]:
        """Yield the session's snapshot, archived states and states in memory; the caller holds its lock."""
        snapshot = session_to_proto(session, self._model_id)
        snapshot.answers.extend(response_to_proto(response) for response in session.answers.entries())
        yield snapshot
        states = archived_states(session)
        while (item := await asyncio.to_thread(next, states, None)) is not None:
            yield await asyncio.to_thread(state_to_proto, *item)
        for key, state in states_in_memory(session).items():
            yield await asyncio.to_thread(state_to_proto, key, state)

    def begin_import(self, snapshot: snapshot_pb2.SessionSnapshot) -> tuple[Session, Restorer]:
        """Create a session to restore; :meth:`finish_import` adds it, :meth:`abort_import` drops it.

        Raises InvalidRequest, ModelMismatch.
        """
        check_snapshot(snapshot, self._model_id)
        ttl_seconds = snapshot.ttl.ToNanoseconds() / 1e9
        session = self._sessions.make(snapshot.session_id, ttl_seconds, live=snapshot.live)
        return session, Restorer(session, snapshot, self._device)

    def finish_import(self, session: Session, epoch: int, *, is_stored: bool) -> None:
        """Add a restored session and take ownership of it.

        Raises ResourceExhausted, InvalidRequest if this tracker already has the session with a newer epoch.
        """
        self.replace_older(session.session_id, epoch)
        self._sessions.admit(session)
        self.own(session, epoch, is_stored=is_stored)

    def abort_import(self, session: Session) -> None:
        """Free a session whose import failed."""
        if self._sessions.find_unrenewed(session.session_id) is not session:
            self._sessions.free(session)

    async def close(self) -> None:
        """Write enqueued changes to the store, and stop."""
        for session in self._sessions:
            try:
                await session.replicator.flush()
            except StaleEpoch:
                pass
            self._on_end(session)
        await self._closing.wait()

    async def _load(self, store: SessionStore, session_id: str, epoch: int) -> Session:
        try:
            stored = await store.read(session_id, epoch)
        except StoreDown as error:
            raise Unavailable("the session store is down", service="session store") from error
        if stored is None:
            raise SessionNotFound("there is no such session", session_id=session_id)
        snapshot, states = read_stored(stored)
        session, restorer = self.begin_import(snapshot)
        try:
            await asyncio.to_thread(_restore_states, restorer, states)
            restorer.finish()
            self.finish_import(session, epoch, is_stored=True)
        except BaseException:
            self.abort_import(session)
            raise
        logger.info("session %s is loaded from the store, epoch %d", session_id, epoch)
        return session

    def _on_end(self, session: Session) -> None:
        # Calls that are still running on the session must not wait for a writer that has stopped.
        replicator, session.replicator = session.replicator, Replicator()
        self._closing.spawn(replicator.close())


def _restore_states(restorer: Restorer, states: Sequence[bytes]) -> None:
    """Add states in the order of their frames, because the store has no order.

    Runs on a thread, before the session is visible.
    """
    messages = [snapshot_pb2.FrameState.FromString(state) for state in states]
    for state in sorted(messages, key=lambda state: state.frame_index):
        restorer.add(state)
