"""Calls to whichever tracker has a session, and what is done where that one has gone."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import grpc

from gateway.backends.tracker_backend import TrackerBackend
from gateway.backends.trackers import Trackers
from gateway.sessions.session import GatewaySession
from maskmesh.errors import UNREACHABLE, MaskmeshError, SessionLost, SessionNotFound, StaleEpoch, Unavailable
from maskmesh.storage.redis_store import StoreDown
from maskmesh.storage.session_store import Owner, SessionStore
from maskmesh.telemetry import metrics

T = TypeVar("T")

logger = logging.getLogger(__name__)

# A tracker that is out of reach may be back soon.  With a store nobody waits for it while there is another.
RETURN_SECONDS = 5.0
PATIENCE_SECONDS = 30.0
PAUSE_SECONDS = 0.1
CUT_OFF_PAUSE_SECONDS = 1.0

# What says that a session is elsewhere, or its tracker gone.
GONE = (Unavailable, StaleEpoch, SessionNotFound)


class SessionRouter:
    """Finds the owner of each session, and another one where it is gone.

    With a store any tracker can go on with a session.  Without one a tracker that drains hands its sessions
    over; what was in one that ended is lost.
    """

    def __init__(self, trackers: Trackers, shared: SessionStore | None) -> None:
        self.trackers = trackers
        self._shared = shared
        for reason in ("draining", "gone"):
            metrics.count_moved(reason, 0)

    async def begin(self, session_id: str, ttl_seconds: float, *, live: bool) -> tuple[Owner, float]:
        """Begin a session on the tracker with the least to do; returns its owner and its lease in seconds.

        Raises ResourceExhausted, Unavailable.
        """
        avoid: set[str] = set()
        while True:
            address = await self.trackers.choose(avoid)
            owner = Owner(address, 1)
            try:
                granted = await self.backend(owner).create_session(
                    session_id, ttl_seconds, live=live, epoch=owner.epoch
                )
            except Unavailable:
                avoid.add(address)
                continue
            return owner, granted

    def backend(self, owner: Owner) -> TrackerBackend:
        """The tracker that has a session."""
        return self.trackers.backend(owner.address)

    async def call(self, session: GatewaySession, work: Callable[[TrackerBackend, int], Awaitable[T]]) -> T:
        """What ``work`` returns with the session's tracker and epoch; it may be done again elsewhere.

        Raises SessionLost, SessionNotFound, Unavailable, and what ``work`` raises.
        """
        patience = RetryWindow()
        while True:
            owner = session.owner
            try:
                return await work(self.backend(owner), owner.epoch)
            except GONE as error:
                await self.recover(session, owner, error, patience)

    async def recover(
        self, session: GatewaySession, owner: Owner, error: MaskmeshError, patience: "Patience"
    ) -> None:
        """After ``owner`` failed with one of GONE: when this returns the session may have another owner.

        Raises SessionLost where there is nothing to go on with, SessionNotFound where it has ended, and
        ``error`` itself where it is not to be expected that it goes on soon.
        """
        async with session.moving:
            if session.has_ended:
                raise SessionNotFound("the session has ended", session_id=session.session_id)
            if session.owner != owner:
                return
            if UNREACHABLE in error.metadata:
                # The tracker is there and has the session: without a store there is no better one.
                await patience.wait(error, CUT_OFF_PAUSE_SECONDS)
                if self._shared is None:
                    return
            if self._shared is None:
                await self._recover_alone(session, owner, error, patience)
                return
            try:
                await self._recover_shared(self._shared, session, owner, error)
            except (StoreDown, Unavailable):
                await patience.wait(error)

    async def hand_over_draining(self, sessions: Sequence[GatewaySession]) -> None:
        """Move sessions that nobody calls just now from trackers that drain, or they would be lost."""
        if len(await self.trackers.addresses()) < 2:
            return
        for address in {session.owner.address for session in sessions}:
            load = await self.trackers.load(address)
            if load is None or not load.draining:
                continue
            for session in [s for s in sessions if s.owner.address == address]:
                error = Unavailable("the tracker is draining", draining="true")
                try:
                    await self.recover(session, session.owner, error, RetryWindow())
                except (MaskmeshError, grpc.RpcError) as failure:
                    logger.warning("session %s stays at %s: %s", session.session_id, address, failure)

    async def _recover_shared(
        self, shared: SessionStore, session: GatewaySession, owner: Owner, error: MaskmeshError
    ) -> None:
        record = await shared.get(session.session_id)
        if record is None:
            raise SessionNotFound("there is no such session", session_id=session.session_id)
        if record.owner != owner:
            session.owner = record.owner
            return
        if isinstance(error, SessionNotFound):
            await self._begin_empty(session, owner)
            raise self._lost(session)
        is_draining = "draining" in error.metadata
        is_cut_off = UNREACHABLE in error.metadata
        if not is_draining and not is_cut_off and await self.trackers.load(owner.address) is not None:
            raise Unavailable("only the connection was lost")  # it is there: once more
        address = await self.trackers.choose({owner.address})
        moved = await shared.move(session.session_id, owner, address)
        if moved is not None:
            session.owner = moved
            metrics.count_moved("draining" if is_draining else "gone")
            logger.info("session %s goes on at %s", session.session_id, moved.address)

    async def _recover_alone(
        self, session: GatewaySession, owner: Owner, error: MaskmeshError, patience: "Patience"
    ) -> None:
        if "draining" in error.metadata:
            await self._hand_over(session, owner)
            return
        if isinstance(error, Unavailable) and not patience.is_over(RETURN_SECONDS):
            await patience.wait(error)
            return
        await self._begin_empty(session, owner)
        raise self._lost(session)

    async def _hand_over(self, session: GatewaySession, owner: Owner) -> None:
        """From a tracker that drains to another one."""
        address = await self.trackers.choose({owner.address})
        moved = Owner(address, owner.epoch + 1)
        parts = self.backend(owner).export_session(session.session_id, owner.epoch)
        await self.backend(moved).import_session(parts, moved.epoch)
        session.owner = moved
        metrics.count_moved("draining")
        logger.info("session %s was handed over to %s", session.session_id, address)
        try:
            await self.backend(owner).delete_session(session.session_id, owner.epoch)
        except (MaskmeshError, grpc.RpcError) as error:
            logger.info("session %s is left at %s: %s", session.session_id, owner.address, error)

    async def _begin_empty(self, session: GatewaySession, owner: Owner) -> None:
        """The session and its frames are still there: so that prompts can be said again."""
        address = await self.trackers.choose()
        moved = Owner(address, owner.epoch + 1)
        if self._shared is not None:
            found = await self._shared.move(session.session_id, owner, address)
            if found != moved:
                return
        await self.backend(moved).create_session(
            session.session_id, session.ttl_seconds, live=session.is_live, epoch=moved.epoch
        )
        session.owner = moved

    def _lost(self, session: GatewaySession) -> SessionLost:
        last = session.last_frame_index
        return SessionLost(
            "the tracker of the session ended, and its objects with it",
            session_id=session.session_id,
            **({} if last is None else {"last_frame_index": last}),
        )


class RetryWindow:
    """How long somebody has waited for things to get better."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def is_over(self, seconds: float = PATIENCE_SECONDS) -> bool:
        """Whether it is longer than so many seconds."""
        return time.monotonic() - self._began > seconds

    def renew(self) -> None:
        """It got better."""
        self._began = time.monotonic()

    async def wait(self, error: MaskmeshError, seconds: float = PAUSE_SECONDS) -> None:
        """Wait a little more, or raise ``error``."""
        if self.is_over():
            raise error
        await asyncio.sleep(seconds)
