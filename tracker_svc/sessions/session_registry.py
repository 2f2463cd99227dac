"""Which sessions this tracker has, and whether it still may say so."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence

import torch

from maskmesh.errors import SessionNotFound, StaleEpoch, Unavailable
from maskmesh.internal.v1 import snapshot_pb2
from maskmesh.storage.redis_store import StoreDown
from maskmesh.storage.session_store import Owner, SessionStore
from tracker_svc.sessions.session import Session, SessionTable
from tracker_svc.sessions.session_replicator import SessionReplicator, read_stored
from tracker_svc.sessions.snapshot import (
    Restorer,
    answer_to_proto,
    archived_states,
    check_snapshot,
    session_to_proto,
    state_to_proto,
    states_in_memory,
)

logger = logging.getLogger(__name__)


class SessionRegistry:
    """The sessions of a tracker, kept in a shared store where there is one.  Used on one event loop only.

    A session is owned from one epoch to the next.  With a store every change is written there before it is
    answered, and every frame before the answer is compared with the epoch there.
    """

    def __init__(
        self,
        sessions: SessionTable,
        shared: SessionStore | None,
        *,
        address: str,
        model_id: str,
        device: torch.device,
        budget_bytes: int,
    ) -> None:
        self._sessions = sessions
        self._shared = shared
        self._address = address
        self._model_id = model_id
        self._device = device
        self._budget_bytes = budget_bytes
        self._replicators: dict[str, SessionReplicator] = {}
        self._taking: dict[tuple[str, int], asyncio.Task[Session]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        sessions.on_end = self._ended

    def own(self, session: Session, epoch: int, *, is_kept: bool = False) -> None:
        """Begin to own a session; ``is_kept`` says that the store has it as it is now."""
        session.epoch = epoch
        if self._shared is not None and epoch:
            self._replicators[session.session_id] = SessionReplicator(
                self._shared,
                session,
                Owner(self._address, epoch),
                model_id=self._model_id,
                budget_bytes=self._budget_bytes,
                is_kept=is_kept,
            )

    async def find(self, session_id: str, epoch: int) -> Session:
        """A session, taken from the store where it is not here (any more); its lease begins anew.

        Raises SessionNotFound, StaleEpoch where the caller or this tracker is not up to date, Unavailable
        where the store is down, and what :func:`check_snapshot` raises.
        """
        session = self._sessions.find_unrenewed(session_id)
        if session is not None and epoch < session.epoch:
            raise StaleEpoch("the session was moved", session_id=session_id, epoch=session.epoch)
        replicator = self._replicators.get(session_id)
        if replicator is not None and replicator.is_stale:
            self._sessions.drop(session_id)
            session = None
        if session is not None and epoch == session.epoch:
            return self._sessions.get(session_id)
        if session is not None:
            logger.info("session %s was elsewhere meanwhile", session_id)
            self._sessions.drop(session_id)
        if self._shared is None:
            raise SessionNotFound("there is no such session", session_id=session_id)
        key = session_id, epoch
        if key not in self._taking:
            task = asyncio.ensure_future(self._take(self._shared, session_id, epoch))
            self._taking[key] = task
            task.add_done_callback(lambda _: self._taking.pop(key, None))
        return await asyncio.shield(self._taking[key])

    def note(self, session: Session) -> None:
        """A session has changed; the caller holds its lock."""
        if (replicator := self._replicators.get(session.session_id)) is not None:
            replicator.note()

    async def flush(self, session: Session) -> None:
        """Wait until what was noted is in the store.  Raises StaleEpoch."""
        if (replicator := self._replicators.get(session.session_id)) is not None:
            await replicator.flush()

    async def make_room(self, session: Session) -> None:
        """Wait until another frame may be tracked.  Raises StaleEpoch."""
        if (replicator := self._replicators.get(session.session_id)) is not None:
            await replicator.make_room()

    async def confirm(self, session: Session) -> bool:
        """Raises StaleEpoch where somebody else owns the session by now; whether anybody was asked."""
        replicator = self._replicators.get(session.session_id)
        if replicator is not None:
            await replicator.confirm()
        return replicator is not None

    def check(self, session: Session) -> None:
        """Renew the lease of a session that is worked on.  Raises SessionNotFound where it has ended."""
        if self._sessions.find_unrenewed(session.session_id) is not session:
            raise SessionNotFound("the session has ended", session_id=session.session_id)
        session.renew()

    async def export(
        self, session: Session
    ) -> AsyncIterator[snapshot_pb2.SessionSnapshot | snapshot_pb2.FrameState]:
        """The session as messages, the states of the archive first; the caller holds its lock."""
        snapshot = session_to_proto(session, self._model_id)
        snapshot.answers.extend(answer_to_proto(answer) for answer in session.answers.entries())
        yield snapshot
        states = archived_states(session)
        while (found := await asyncio.to_thread(next, states, None)) is not None:
            yield await asyncio.to_thread(state_to_proto, *found)
        for key, state in states_in_memory(session).items():
            yield await asyncio.to_thread(state_to_proto, key, state)

    def begin(self, snapshot: snapshot_pb2.SessionSnapshot) -> tuple[Session, Restorer]:
        """A session that is being taken in; :meth:`admit` makes it one of this tracker.

        Raises InvalidRequest, ModelMismatch.
        """
        check_snapshot(snapshot, self._model_id)
        ttl_seconds = snapshot.ttl.ToNanoseconds() / 1e9
        session = self._sessions.make(snapshot.session_id, ttl_seconds, live=snapshot.live)
        return session, Restorer(session, snapshot, self._device)

    def admit(self, session: Session, epoch: int, *, is_kept: bool) -> None:
        """Own a session that was taken in.  Raises ResourceExhausted, InvalidRequest where it is here."""
        self._sessions.admit(session)
        self.own(session, epoch, is_kept=is_kept)

    def discard(self, session: Session) -> None:
        """Free what was begun and not admitted."""
        if self._sessions.find_unrenewed(session.session_id) is not session:
            self._sessions.free(session)

    async def close(self) -> None:
        """Write what is left, and stop."""
        replicators, self._replicators = list(self._replicators.values()), {}
        for replicator in replicators:
            try:
                await replicator.flush()
            except StaleEpoch:
                pass
            await replicator.close()
        await asyncio.gather(*self._closing)

    async def _take(self, shared: SessionStore, session_id: str, epoch: int) -> Session:
        try:
            kept = await shared.read(session_id, epoch)
        except StoreDown as error:
            raise Unavailable("the session store is down", service="session store") from error
        if kept is None:
            raise SessionNotFound("there is no such session", session_id=session_id)
        snapshot, states = read_stored(kept)
        session, restorer = self.begin(snapshot)
        try:
            await asyncio.to_thread(_add_states, restorer, states)
            restorer.finish()
            self.admit(session, epoch, is_kept=True)
        except BaseException:
            self.discard(session)
            raise
        logger.info("session %s is here now, as owner %d", session_id, epoch)
        return session

    def _ended(self, session: Session) -> None:
        replicator = self._replicators.pop(session.session_id, None)
        if replicator is not None:
            task = asyncio.ensure_future(replicator.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


def _add_states(restorer: Restorer, states: Sequence[bytes]) -> None:
    """On a thread, before anybody else knows the session; by frame, as a store has no order."""
    messages = [snapshot_pb2.FrameState.FromString(state) for state in states]
    for state in sorted(messages, key=lambda state: state.frame_index):
        restorer.add(state)
