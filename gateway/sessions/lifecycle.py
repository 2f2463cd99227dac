"""Sessions here, in the services behind, and in the store: begun together, kept together, ended together."""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import grpc
from opentelemetry import trace

from gateway.api_keys import current_caller
from gateway.backends.encoders import Encoders
from gateway.backends.pins import unpin
from gateway.frames.frame_replication import adopt_frames, publish_frames, recall_uploads
from gateway.sessions.session import GatewaySession, GatewaySessions
from gateway.sessions.session_router import SessionRouter
from maskmesh import telemetry
from maskmesh.errors import (
    InvalidRequest,
    MaskmeshError,
    ResourceExhausted,
    SessionNotFound,
    Unavailable,
)
from maskmesh.malloc import trim_heap
from maskmesh.storage.redis_store import StoreDown
from maskmesh.storage.session_store import ENDED, RENEWAL_SECONDS, Owner, SessionRecord, SessionStore

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0
FREE_SECONDS = 2.0

# What gateways note of a session for one another, besides its frames.
LIVE_NOTE = "live"
TENANT_NOTE = "tenant"
TRACE_NOTE = "traceparent"


class Lifecycle:
    """Begins and ends the sessions of one gateway.  ``ttl_seconds`` is the longest lease, and the usual.

    With a store every gateway finds every session: the store says who owns it, and what it is made of; what
    is here is a copy of that.  While the store is down a gateway goes on with what is here.
    """

    def __init__(
        self,
        sessions: GatewaySessions,
        encoders: Encoders,
        router: SessionRouter,
        shared: SessionStore | None,
        *,
        ttl_seconds: float,
    ) -> None:
        self._sessions = sessions
        self._encoders = encoders
        self._router = router
        self._shared = shared
        self._ttl_seconds = ttl_seconds
        self._adopting: dict[str, asyncio.Task[GatewaySession]] = {}
        self._has_ended = False  # whether a session has, since memory was given back
        self._sweeper = asyncio.ensure_future(self._sweep())

    async def create(
        self, ttl_seconds: float, *, live: bool = False, field: str = "ttl", key: str = ""
    ) -> GatewaySession:
        """Begin a session; 0 seconds mean the usual lease.  ``key`` is that of the call.

        Raises InvalidRequest, ResourceExhausted.
        """
        if ttl_seconds < 0:
            raise InvalidRequest("a ttl must not be negative", field=field)
        caller = current_caller()
        self._sessions.check_room(caller)
        session_id = uuid.uuid4().hex
        asked = min(ttl_seconds or self._ttl_seconds, self._ttl_seconds)
        owner, granted = await self._router.begin(session_id, asked, live=live)
        span = trace.get_current_span()
        span.set_attribute(telemetry.SESSION_ID, session_id)
        try:
            session = self._sessions.create(
                session_id, granted, owner, caller, span.get_span_context(), live=live
            )
        except ResourceExhausted:  # others were quicker
            _spawn(self._free_tracker(session_id, owner))
            raise
        await self._publish(session)
        return await self._first_of(_scoped(key), session)

    async def find(self, session_id: str) -> GatewaySession:
        """Find a session and renew its lease.  Raises SessionNotFound."""
        trace.get_current_span().set_attribute(telemetry.SESSION_ID, session_id)
        tenant = current_caller().tenant  # a session of another one is none
        if self._shared is None:
            return self._own(session_id)
        try:
            record = await self._shared.get(session_id)
        except StoreDown:
            return self._own(session_id)
        here = self._sessions.find_unrenewed(session_id)
        if record is not None and record.attributes.get(TENANT_NOTE, tenant) != tenant:
            raise SessionNotFound("there is no such session", session_id=session_id)
        if record is not None and record.has_ended:
            if here is not None:
                await self._sessions.end(here)
            raise SessionNotFound("the session has ended", session_id=session_id)
        if record is None:
            # The store has lost it, or it never was: what is here is put there again.
            session = self._own(session_id)
            await self._publish(session)
            return session
        session = here if here is not None else await self._adopt(record)
        if record.owner.epoch > session.owner.epoch:
            session.owner = record.owner
        if here is not None:
            await adopt_frames(self._shared, record, session)
        recall_uploads(record, session)
        session.renew()
        self._renew_record(session)
        return session

    def _own(self, session_id: str) -> GatewaySession:
        """A session that is here and the caller's."""
        here = self._sessions.find_unrenewed(session_id)
        if here is not None and here.caller.tenant != current_caller().tenant:
            raise SessionNotFound("there is no such session", session_id=session_id)
        return self._sessions.get(session_id)

    @contextlib.asynccontextmanager
    async def kept_alive(self, session: GatewaySession) -> AsyncIterator[None]:
        """A long stream is use: keep all leases."""
        renewal = asyncio.ensure_future(self._renew(session))
        try:
            yield
        finally:
            renewal.cancel()
            session.renew()
            # The tracker's lease begins anew as well, whatever becomes of the caller.
            _spawn(self._renew_tracker(session))

    async def delete(self, session_id: str, key: str = "") -> None:
        """End a session; ``key`` is that of the call.  Raises SessionNotFound."""
        key = _scoped(key)
        if key and self._shared is not None:
            with contextlib.suppress(StoreDown):
                record = await self._shared.get(session_id)
                if record is not None and record.attributes.get(ENDED) == key:
                    return  # by another gateway
        session = await self.find(session_id)
        # To its end also where the caller leaves: frames on disk would have nobody left.
        await asyncio.shield(_spawn(self._end(session, key)))

    async def drain(self) -> None:
        """Let clients go on elsewhere, where that is possible."""
        if self._shared is not None:
            self._sessions.interrupt_streams(Unavailable("the gateway is draining", service="gateway"))

    async def close(self) -> None:
        """End all sessions here; those in the store go on elsewhere."""
        self._sweeper.cancel()
        if self._shared is None:
            # Nobody can use what trackers have of them.
            frees = [asyncio.ensure_future(self._free(session)) for session in self._sessions.all()]
            if frees:
                await asyncio.wait(frees, timeout=FREE_SECONDS)
        await self._sessions.close()

    async def _publish(self, session: GatewaySession) -> None:
        """Put into the store what is here."""
        if self._shared is None:
            return
        notes = {
            LIVE_NOTE: str(int(session.is_live)),
            TENANT_NOTE: session.caller.tenant,
            TRACE_NOTE: telemetry.traceparent(session.span),
        }
        record = SessionRecord(session.session_id, session.owner, session.ttl_seconds, notes)
        try:
            await self._shared.create(record)
            await publish_frames(self._shared, session)
        except StoreDown as error:
            logger.warning("session %s is here alone: %s", session.session_id, error)

    async def _first_of(self, key: str, session: GatewaySession) -> GatewaySession:
        """The session that was begun with a key first: another gateway may have been asked before."""
        if self._shared is None or not key:
            return session
        try:
            first = await self._shared.claim(f"created:{key}", session.session_id, session.ttl_seconds)
        except StoreDown:
            return session
        if first == session.session_id:
            return session
        await self._end(session)
        return await self.find(first)

    async def _adopt(self, record: SessionRecord) -> GatewaySession:
        """A session that another gateway began; once for all who ask for it."""
        session_id = record.session_id
        if session_id not in self._adopting:
            task = asyncio.ensure_future(self._take_over(record))
            self._adopting[session_id] = task
            task.add_done_callback(lambda _: self._adopting.pop(session_id, None))
        return await asyncio.shield(self._adopting[session_id])

    async def _take_over(self, record: SessionRecord) -> GatewaySession:
        assert self._shared is not None
        session = self._sessions.create(
            record.session_id,
            record.ttl_seconds,
            record.owner,
            current_caller(),
            telemetry.span_context(record.attributes.get(TRACE_NOTE, "")),
            live=record.attributes.get(LIVE_NOTE) == "1",
            is_new=False,
        )
        try:
            await adopt_frames(self._shared, record, session)
        except BaseException:
            await self._sessions.end(session)
            raise
        logger.info("session %s is here, too", record.session_id)
        return session

    async def _end(self, session: GatewaySession, key: str = "") -> None:
        await self._sessions.end(session)
        self._has_ended = True
        if self._shared is not None:
            try:
                await self._shared.delete(session.session_id, session.ttl_seconds, key)
            except StoreDown as error:
                logger.warning("session %s is left in the store: %s", session.session_id, error)
        await self._free(session)

    async def _renew(self, session: GatewaySession) -> None:
        while True:
            await self._renew_tracker(session)
            session.renew()
            self._renew_record(session)
            await asyncio.sleep(session.ttl_seconds / 3)

    def _renew_record(self, session: GatewaySession) -> None:
        """The lease in the store, not for every call."""
        if self._shared is not None and time.monotonic() - session.record_renewed > RENEWAL_SECONDS / 2:
            session.record_renewed = time.monotonic()
            _spawn(self._renew_in_store(self._shared, session))

    async def _renew_in_store(self, shared: SessionStore, session: GatewaySession) -> None:
        try:
            await shared.renew(session.session_id, session.ttl_seconds)
        except StoreDown as error:
            logger.info("session %s is not renewed: %s", session.session_id, error)

    async def _renew_tracker(self, session: GatewaySession) -> None:
        """A failure now may be none the next time."""
        owner = session.owner
        try:
            await self._router.backend(owner).renew_session(session.session_id, owner.epoch)
        except (MaskmeshError, grpc.RpcError) as error:
            logger.info("session %s is not renewed: %s", session.session_id, error)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                for session in self._sessions.expired():
                    if await self._is_used_elsewhere(session):
                        await self._sessions.end(session)
                        continue
                    logger.info("session %s expired", session.session_id)
                    await self._end(session)
                if self._shared is None:
                    await self._router.hand_over_draining(self._sessions.all())
                if self._has_ended:
                    self._has_ended = False
                    await asyncio.to_thread(trim_heap)
            except OSError as error:
                logger.warning("expired sessions: %s", error)

    async def _is_used_elsewhere(self, session: GatewaySession) -> bool:
        """Whether another gateway renewed the lease, as far as can be known."""
        if self._shared is None:
            return False
        with contextlib.suppress(StoreDown):
            left = await self._shared.lease_left(session.session_id)
            # A lease in the store is longer by as much as it is renewed late.
            return left > RENEWAL_SECONDS
        return True

    async def _free(self, session: GatewaySession) -> None:
        """Free what a session that is over holds in the other services; they would in time."""
        await self._free_tracker(session.session_id, session.owner)
        await unpin(self._encoders, session, session.encoder_addresses)

    async def _free_tracker(self, session_id: str, owner: Owner) -> None:
        try:
            await self._router.backend(owner).delete_session(session_id, owner.epoch)
        except SessionNotFound:
            pass
        except (MaskmeshError, grpc.RpcError) as error:
            logger.warning("session %s is not freed everywhere: %s", session_id, error)


def _scoped(key: str) -> str:
    """A tenant's key is no other's."""
    return f"{current_caller().tenant}\0{key}" if key else ""


# The event loop holds tasks weakly: somebody must hold them until they are done.
_spawned: set["asyncio.Task[None]"] = set()


def _spawn(work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    task = asyncio.ensure_future(work)
    _spawned.add(task)
    task.add_done_callback(_spawned.discard)
    return task
