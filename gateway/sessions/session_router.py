"""Calls to the tracker that owns a session, and recovery if that tracker is gone."""

import logging
import time
from collections.abc import Sequence
from typing import Any

import grpc

from gateway.backends.tracker_backend import TrackerBackend
from gateway.backends.trackers import Trackers
from gateway.sessions.session import GatewaySession
from maskmesh.aio import RetryWindow, to_its_end
from maskmesh.errors import UNREACHABLE, MaskmeshError, SessionLost, SessionNotFound, StaleEpoch, Unavailable
from maskmesh.internal.v1 import tracker_pb2
from maskmesh.rpc.client_calls import TimedResponse
from maskmesh.storage.redis_store import StoreDown
from maskmesh.storage.session_record import Owner
from maskmesh.storage.session_store import SessionStore
from maskmesh.telemetry import metrics

logger = logging.getLogger(__name__)

# Without a store, how long the gateway retries an unreachable tracker before the session is lost.
RETURN_SECONDS = 5.0

# How long a call is retried, and the pauses between the retries: in general, and while the tracker cannot
# reach an encoder.
RETRY_SECONDS = 30.0
PAUSE_SECONDS = 0.1
CUT_OFF_PAUSE_SECONDS = 1.0

DELETE_SECONDS = 5.0

# Errors that mean that the session has moved, or that its tracker is gone.
GONE = (Unavailable, StaleEpoch, SessionNotFound)


# Methods that change the objects of a session.
_CHANGES = ("AddPrompt", "AddConcept", "RemoveConcept", "ClearPrompts", "RemoveObject", "ResetSession")


class SessionRouter:
    """Routes calls to the owner of each session, and chooses a new owner if the owner is gone.

    With a store any tracker can continue a session.  Without a store a tracker that drains hands its sessions
    over, and the sessions of a tracker that was killed are lost.
    """

    def __init__(self, trackers: Trackers, store: SessionStore | None) -> None:
        self.trackers = trackers
        self._store = store
        for reason in ("draining", "gone"):
            metrics.count_moved(reason, 0)

    async def begin(self, session_id: str, ttl_seconds: float, *, live: bool) -> tuple[Owner, float]:
        """Create a session on the least loaded tracker; returns its owner and its lease in seconds.

        Raises ResourceExhausted, Unavailable.
        """
        unavailable: set[str] = set()
        while True:
            owner = Owner(await self.trackers.choose(unavailable), 1)
            try:
                return owner, await self._create(owner, session_id, ttl_seconds, live=live)
            except Unavailable:
                unavailable.add(owner.address)

    def tracker(self, owner: Owner) -> TrackerBackend:
        """The tracker that owns a session."""
        return self.trackers.backend(owner.address)

    async def call(
        self, session: GatewaySession, method: str, request: Any, timeout: float | None = None
    ) -> Any:
        """The response of :meth:`timed_call`."""
        return (await self.timed_call(session, method, request, timeout)).message

    async def timed_call(
        self, session: GatewaySession, method: str, request: Any, timeout: float | None = None
    ) -> TimedResponse:
        """Call a unary method of the session's owner; the call is retried if the session has a new owner.

        ``request`` contains the session id; its ``epoch`` is set here.  ``timeout`` in seconds bounds all
        attempts.
        Raises SessionLost, SessionNotFound, Unavailable, and the errors of the method.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        window = retry_window()
        while True:
            owner = session.owner
            request.epoch = owner.epoch
            remaining = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            try:
                response = await self.tracker(owner).timed_call(method, request, remaining)
                session.num_changes += method in _CHANGES
                return response
            except GONE as error:
                await self.recover(session, owner, error, window)

    async def renew(self, session: GatewaySession) -> None:
        """Renew the lease at the tracker.  Raises the tracker's errors; there is no retry."""
        owner = session.owner
        request = tracker_pb2.RenewSessionRequest(session_id=session.session_id, epoch=owner.epoch)
        await self.tracker(owner).call("RenewSession", request)

    async def delete(self, session_id: str, owner: Owner) -> None:
        """Delete a session at one tracker.  Raises the tracker's errors; there is no retry."""
        request = tracker_pb2.DeleteSessionRequest(session_id=session_id, epoch=owner.epoch)
        await self.tracker(owner).call("DeleteSession", request, DELETE_SECONDS)

    async def recover(
        self, session: GatewaySession, owner: Owner, error: MaskmeshError, window: RetryWindow
    ) -> None:
        """Recover after ``owner`` failed with an error of GONE; the caller then retries with
        ``session.owner``.

        Raises SessionLost if the session's state is lost, SessionNotFound if the session has ended, and
        ``error`` itself if the retry window has passed.
        """
        async with session.moving:
            if session.has_ended:
                raise SessionNotFound("the session has ended", session_id=session.session_id)
            if session.owner != owner:
                return
            if UNREACHABLE in error.metadata:
                # The tracker itself is reachable and has the session; without a store, no other tracker has
                # it.
                await window.wait(error, CUT_OFF_PAUSE_SECONDS)
                if self._store is None:
                    return
            if self._store is None:
                await self._recover_without_store(session, owner, error, window)
                return
            try:
                await self._recover_from_store(self._store, session, owner, error)
            except (StoreDown, Unavailable):
                await window.wait(error)

    async def hand_over_draining(self, sessions: Sequence[GatewaySession]) -> None:
        """Hand over idle sessions of trackers that drain; these sessions would otherwise be lost."""
        if len(await self.trackers.addresses()) < 2:
            return
        for address in {session.owner.address for session in sessions}:
            load = await self.trackers.load(address)
            if load is None or not load.draining:
                continue
            for session in [s for s in sessions if s.owner.address == address]:
                error = Unavailable("the tracker is draining", draining="true")
                try:
                    await self.recover(session, session.owner, error, retry_window())
                except (MaskmeshError, grpc.RpcError) as failure:
                    logger.warning("session %s stays at %s: %s", session.session_id, address, failure)

    async def _recover_from_store(
        self, store: SessionStore, session: GatewaySession, owner: Owner, error: MaskmeshError
    ) -> None:
        record = await store.get(session.session_id)
        if record is None or record.has_ended:
            raise SessionNotFound("the session has ended", session_id=session.session_id)
        if record.owner != owner:
            session.owner = record.owner
            return
        if isinstance(error, SessionNotFound):
            await to_its_end(self._create_empty(session, owner))
            raise _lost(session)
        is_draining = "draining" in error.metadata
        is_cut_off = UNREACHABLE in error.metadata
        if not is_draining and not is_cut_off and await self.trackers.load(owner.address) is not None:
            raise Unavailable("the connection was lost, the tracker is alive")  # retried by the caller
        address = await self.trackers.choose({owner.address})
        new_owner = await store.move(session.session_id, owner, address)
        if new_owner is None:
            raise SessionNotFound("the session has ended", session_id=session.session_id)
        session.owner = new_owner
        metrics.count_moved("draining" if is_draining else "gone")
        logger.info("session %s moved to %s", session.session_id, new_owner.address)

    async def _recover_without_store(
        self, session: GatewaySession, owner: Owner, error: MaskmeshError, window: RetryWindow
    ) -> None:
        if "draining" in error.metadata:
            await to_its_end(self._hand_over(session, owner))
        elif isinstance(error, Unavailable) and window.elapsed <= RETURN_SECONDS:
            await window.wait(error)
        else:
            await to_its_end(self._create_empty(session, owner))
            if session.num_changes:  # otherwise it had no objects that could be lost
                raise _lost(session)

    async def _hand_over(self, session: GatewaySession, owner: Owner) -> None:
        """Copy a session from a tracker that drains to another one."""
        new_owner = Owner(await self.trackers.choose({owner.address}), owner.epoch + 1)
        parts = self.tracker(owner).export_session(session.session_id, owner.epoch)
        await self.tracker(new_owner).import_session(parts, new_owner.epoch)
        session.owner = new_owner
        metrics.count_moved("draining")
        logger.info("session %s was handed over to %s", session.session_id, new_owner.address)
        try:
            await self.delete(session.session_id, owner)
        except (MaskmeshError, grpc.RpcError) as error:
            logger.info("session %s was not deleted at %s: %s", session.session_id, owner.address, error)

    async def _create_empty(self, session: GatewaySession, owner: Owner) -> None:
        """Create the session again without objects; its frames are kept, so the client can repeat its
        prompts.
        """
        address = await self.trackers.choose()
        new_owner = Owner(address, owner.epoch + 1)
        if self._store is not None:
            stored_owner = await self._store.move(session.session_id, owner, address)
            if stored_owner != new_owner:
                return
        await self._create(new_owner, session.session_id, session.ttl_seconds, live=session.is_live)
        session.owner = new_owner

    async def _create(self, owner: Owner, session_id: str, ttl_seconds: float, *, live: bool) -> float:
        """Create a session on one tracker; returns its lease in seconds."""
        request = tracker_pb2.CreateSessionRequest(session_id=session_id, live=live, epoch=owner.epoch)
        request.ttl.FromNanoseconds(int(ttl_seconds * 1e9))
        response = await self.tracker(owner).call("CreateSession", request)
        return float(response.ttl.ToNanoseconds() / 1e9)


def retry_window() -> RetryWindow:
    """The window in which calls to a session's tracker are retried."""
    return RetryWindow(RETRY_SECONDS, first_pause=PAUSE_SECONDS)


def _lost(session: GatewaySession) -> SessionLost:
    last = session.last_frame_index
    return SessionLost(
        "the tracker of the session has stopped, and the objects of the session are lost",
        session_id=session.session_id,
        **({} if last is None else {"last_frame_index": last}),
    )
