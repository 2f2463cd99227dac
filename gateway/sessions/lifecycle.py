"""Creation and deletion of sessions in this gateway, on the tracker and in the store."""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import AsyncIterator
from functools import partial

import grpc
from opentelemetry import trace

from gateway.api_keys import current_caller
from gateway.backends.encoders import Encoders
from gateway.frames.upload_replication import restore_upload_responses
from gateway.sessions.pins import unpin
from gateway.sessions.session import GatewaySession
from gateway.sessions.session_router import SessionRouter
from gateway.sessions.session_table import GatewaySessionTable
from maskmesh import telemetry
from maskmesh.aio import SingleFlight, TaskSet
from maskmesh.errors import InvalidRequest, MaskmeshError, ResourceExhausted, SessionNotFound, Unavailable
from maskmesh.scheduling.malloc import trim_heap
from maskmesh.storage.redis_store import StoreDown
from maskmesh.storage.session_record import ENDED, Owner, SessionRecord
from maskmesh.storage.session_store import RENEWAL_SECONDS, SessionStore

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0
FREE_SECONDS = 2.0

# Attributes of a session in the store.
LIVE_ATTRIBUTE = "live"
TENANT_ATTRIBUTE = "tenant"
TRACE_ATTRIBUTE = "traceparent"


class Lifecycle:
    """Creates and deletes the sessions of one gateway.  ``ttl_seconds`` is the maximum and default lease.

    With a store, every gateway can use every session: the store has the owner and the frames of the
    session, and the gateway has a copy, which it uses while the store is down.
    """

    def __init__(
        self,
        sessions: GatewaySessionTable,
        encoders: Encoders,
        router: SessionRouter,
        store: SessionStore | None,
        *,
        ttl_seconds: float,
    ) -> None:
        self._sessions = sessions
        self._encoders = encoders
        self._router = router
        self._store = store
        self._ttl_seconds = ttl_seconds
        self._adopting: SingleFlight[str, GatewaySession] = SingleFlight()
        self._background = TaskSet()
        self._must_trim = False  # a session has ended since the heap was trimmed
        self._sweeper = asyncio.ensure_future(self._sweep())

    async def create(
        self, ttl_seconds: float, *, live: bool = False, field: str = "ttl", key: str = ""
    ) -> GatewaySession:
        """Create a session; 0 seconds mean the default lease.  ``key`` is the call's idempotency key.

        Raises InvalidRequest, ResourceExhausted, Unavailable.
        """
        if ttl_seconds < 0:
            raise InvalidRequest("a ttl must not be negative", field=field)
        caller = current_caller()
        self._sessions.check_room_for(caller)
        session_id = uuid.uuid4().hex
        ttl_seconds = min(ttl_seconds or self._ttl_seconds, self._ttl_seconds)
        owner, granted = await self._router.begin(session_id, ttl_seconds, live=live)
        span = trace.get_current_span()
        span.set_attribute(telemetry.SESSION_ID, session_id)
        try:
            self._sessions.check_room_for(caller)  # other calls may have created sessions meanwhile
            session = self._sessions.create(
                session_id, granted, owner, caller, span.get_span_context(), live=live
            )
        except ResourceExhausted:
            self._background.spawn(self._delete_at_tracker(session_id, owner))
            raise
        await self._publish(session)
        return await self._first_with_key(_scoped(key), session)

    async def find(self, session_id: str) -> GatewaySession:
        """Find a session and renew its lease.  Raises SessionNotFound."""
        trace.get_current_span().set_attribute(telemetry.SESSION_ID, session_id)
        tenant = current_caller().tenant
        if self._store is None:
            return self._find_here(session_id)
        try:
            record = await self._store.get(session_id)
        except StoreDown:
            return self._find_here(session_id)
        session = self._sessions.find_unrenewed(session_id)
        if record is not None and record.attributes.get(TENANT_ATTRIBUTE, tenant) != tenant:
            raise SessionNotFound("there is no such session", session_id=session_id)
        if record is not None and record.has_ended:
            if session is not None:
                await self._sessions.end(session)
            raise SessionNotFound("the session has ended", session_id=session_id)
        if record is None:
            # The store has lost the session, or the session was created while the store was down.
            session = self._find_here(session_id)
            await self._publish(session)
            return session
        if session is None:
            session = await self._adopting.run(session_id, partial(self._adopt, record))
        else:
            with contextlib.suppress(StoreDown):  # the gateway has a copy
                await session.replicator.adopt(record)
        if record.owner.epoch > session.owner.epoch:
            session.owner = record.owner
        restore_upload_responses(record, session.answers)
        session.renew()
        self._renew_in_store_if_due(session)
        return session

    def _find_here(self, session_id: str) -> GatewaySession:
        session = self._sessions.find_unrenewed(session_id)
        if session is not None and session.caller.tenant != current_caller().tenant:
            raise SessionNotFound("there is no such session", session_id=session_id)
        return self._sessions.get(session_id)

    @contextlib.asynccontextmanager
    async def keeping_alive(self, session: GatewaySession) -> AsyncIterator[None]:
        """Renew all leases of a session while a stream or an upload is open."""
        renewal = asyncio.ensure_future(self._renew_all(session))
        try:
            yield
        finally:
            renewal.cancel()
            session.renew()
            self._background.spawn(self._renew_at_tracker(session))

    async def delete(self, session_id: str, key: str = "") -> None:
        """End a session; ``key`` is the call's idempotency key.  Raises SessionNotFound."""
        key = _scoped(key)
        if key and self._store is not None:
            with contextlib.suppress(StoreDown):
                record = await self._store.get(session_id)
                if record is not None and record.attributes.get(ENDED) == key:
                    return  # an earlier attempt of this call has deleted the session
        session = await self.find(session_id)
        # A cancellation by the caller must not interrupt the deletion, or the frames would stay on disk.
        await asyncio.shield(self._background.spawn(self._end(session, key)))

    async def drain(self) -> None:
        """End the streams of sessions that other gateways can continue."""
        if self._store is not None:
            self._sessions.interrupt_streams(Unavailable("the gateway is draining", service="gateway"))

    async def close(self) -> None:
        """End all sessions of this gateway; those in the store continue at other gateways."""
        self._sweeper.cancel()
        if self._store is None:
            frees = [asyncio.ensure_future(self._free(session)) for session in self._sessions]
            if frees:
                await asyncio.wait(frees, timeout=FREE_SECONDS)
        await self._sessions.close()

    async def _publish(self, session: GatewaySession) -> None:
        """Write a session to the store."""
        if self._store is None:
            return
        attributes = {
            LIVE_ATTRIBUTE: str(int(session.is_live)),
            TENANT_ATTRIBUTE: session.caller.tenant,
            TRACE_ATTRIBUTE: telemetry.traceparent(session.span),
        }
        record = SessionRecord(session.session_id, session.owner, session.ttl_seconds, attributes)
        try:
            await self._store.create(record)
            await session.replicator.publish()
        except StoreDown as error:
            logger.warning("session %s is not in the store: %s", session.session_id, error)

    async def _first_with_key(self, key: str, session: GatewaySession) -> GatewaySession:
        """The session that was created first with a key, at this or another gateway."""
        if self._store is None or not key:
            return session
        try:
            first = await self._store.claim(f"created:{key}", session.session_id, session.ttl_seconds)
        except StoreDown:
            return session
        if first == session.session_id:
            return session
        await self._end(session)
        return await self.find(first)

    async def _adopt(self, record: SessionRecord) -> GatewaySession:
        """Copy a session of another gateway from the store."""
        session = self._sessions.create(
            record.session_id,
            record.ttl_seconds,
            record.owner,
            current_caller(),
            telemetry.span_context(record.attributes.get(TRACE_ATTRIBUTE, "")),
            live=record.attributes.get(LIVE_ATTRIBUTE) == "1",
        )
        try:
            await session.replicator.adopt(record)
        except BaseException as error:
            await self._sessions.end(session)
            if isinstance(error, StoreDown):
                raise Unavailable("the session store is down", service="gateway") from error
            raise
        logger.info("session %s is copied from the store", record.session_id)
        return session

    async def _end(self, session: GatewaySession, key: str = "") -> None:
        await self._sessions.end(session)
        self._must_trim = True
        if self._store is not None:
            try:
                await self._store.delete(session.session_id, session.ttl_seconds, key)
            except StoreDown as error:
                logger.warning("session %s stays in the store: %s", session.session_id, error)
        await self._free(session)

    async def _renew_all(self, session: GatewaySession) -> None:
        while True:
            await self._renew_at_tracker(session)
            session.renew()
            self._renew_in_store_if_due(session)
            await asyncio.sleep(session.ttl_seconds / 3)

    def _renew_in_store_if_due(self, session: GatewaySession) -> None:
        """Renew the lease in the store in the background, at most twice in ``RENEWAL_SECONDS``."""
        if self._store is not None and time.monotonic() - session.store_renewed > RENEWAL_SECONDS / 2:
            session.store_renewed = time.monotonic()
            self._background.spawn(self._renew_in_store(self._store, session))

    async def _renew_in_store(self, store: SessionStore, session: GatewaySession) -> None:
        try:
            await store.renew(session.session_id, session.ttl_seconds)
        except StoreDown as error:
            logger.info("session %s is not renewed in the store: %s", session.session_id, error)

    async def _renew_at_tracker(self, session: GatewaySession) -> None:
        with telemetry.background("renew_session"):
            try:
                await self._router.renew(session)
            except (MaskmeshError, grpc.RpcError) as error:
                # The next renewal may succeed.
                logger.info("session %s is not renewed at its tracker: %s", session.session_id, error)

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
                if self._store is None:
                    await self._router.hand_over_draining(list(self._sessions))
                if self._must_trim:
                    self._must_trim = False
                    await asyncio.to_thread(trim_heap)
            except OSError as error:
                logger.warning("the sweep of expired sessions failed: %s", error)

    async def _is_used_elsewhere(self, session: GatewaySession) -> bool:
        """Whether another gateway has renewed the lease; also true while the store is down."""
        if self._store is None:
            return False
        with contextlib.suppress(StoreDown):
            # The lease in the store expires RENEWAL_SECONDS after the lease in this gateway.
            return await self._store.lease_left(session.session_id) > RENEWAL_SECONDS
        return True

    async def _free(self, session: GatewaySession) -> None:
        """Free the resources of an ended session in the other services."""
        await self._delete_at_tracker(session.session_id, session.owner)
        await unpin(self._encoders, session, session.encoder_addresses)

    async def _delete_at_tracker(self, session_id: str, owner: Owner) -> None:
        with telemetry.background("delete_session"):
            try:
                await self._router.delete(session_id, owner)
            except SessionNotFound:
                pass
            except (MaskmeshError, grpc.RpcError) as error:
                logger.warning("session %s is left to expire at its tracker: %s", session_id, error)


def _scoped(key: str) -> str:
    """Combine an idempotency key with the caller's tenant, so that keys of tenants do not collide."""
    return f"{current_caller().tenant}\0{key}" if key else ""
