"""Sessions here and in the services behind: begun together, kept together, ended together."""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import grpc
from opentelemetry import trace

from gateway.backends import EncoderBackend, TrackerBackend
from gateway.session import GatewaySession, GatewaySessions
from maskmesh import telemetry
from maskmesh.errors import InvalidRequest, MaskmeshError, ResourceExhausted, SessionNotFound
from maskmesh.memory import give_back

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0


class Lifecycle:
    """Begins and ends the sessions of one gateway.  ``ttl_seconds`` is the longest lease, and the usual."""

    def __init__(
        self,
        sessions: GatewaySessions,
        encoder: EncoderBackend,
        tracker: TrackerBackend,
        *,
        ttl_seconds: float,
    ) -> None:
        self._sessions = sessions
        self._encoder = encoder
        self._tracker = tracker
        self._ttl_seconds = ttl_seconds
        self._has_ended = False  # whether a session has, since memory was given back
        self._sweeper = asyncio.ensure_future(self._sweep())

    async def create(self, ttl_seconds: float, *, live: bool = False, field: str = "ttl") -> GatewaySession:
        """Begin a session; 0 seconds mean the usual lease.  Raises InvalidRequest, ResourceExhausted."""
        if ttl_seconds < 0:
            raise InvalidRequest("a ttl must not be negative", field=field)
        self._sessions.check_room()
        session_id = uuid.uuid4().hex
        asked = min(ttl_seconds or self._ttl_seconds, self._ttl_seconds)
        granted = await self._tracker.create_session(session_id, asked, live=live)
        span = trace.get_current_span()
        span.set_attribute(telemetry.SESSION_ID, session_id)
        try:
            return self._sessions.create(session_id, granted, span.get_span_context(), live=live)
        except ResourceExhausted:  # others were quicker
            _spawn(self._free(session_id))
            raise

    def get(self, session_id: str) -> GatewaySession:
        """Find a session and renew its lease.  Raises SessionNotFound."""
        trace.get_current_span().set_attribute(telemetry.SESSION_ID, session_id)
        return self._sessions.get(session_id)

    @contextlib.asynccontextmanager
    async def kept_alive(self, session: GatewaySession) -> AsyncIterator[None]:
        """A long stream is use: keep both leases."""
        renewal = asyncio.ensure_future(self._renew(session))
        try:
            yield
        finally:
            renewal.cancel()
            session.renew()
            # The tracker's lease begins anew as well, whatever becomes of the caller.
            _spawn(self._renew_tracker(session.session_id))

    async def delete(self, session_id: str) -> None:
        """End a session.  Raises SessionNotFound."""
        session = self.get(session_id)
        # To its end also where the caller leaves: frames on disk would have nobody left.
        await asyncio.shield(_spawn(self._end(session)))

    async def close(self) -> None:
        """End all sessions here."""
        self._sweeper.cancel()
        await self._sessions.close()

    async def _end(self, session: GatewaySession) -> None:
        await self._sessions.end(session)
        self._has_ended = True
        await self._free(session.session_id)

    async def _renew(self, session: GatewaySession) -> None:
        while True:
            await self._renew_tracker(session.session_id)
            session.renew()
            await asyncio.sleep(session.ttl_seconds / 3)

    async def _renew_tracker(self, session_id: str) -> None:
        """A failure now may be none the next time."""
        try:
            await self._tracker.renew_session(session_id)
        except (MaskmeshError, grpc.RpcError) as error:
            logger.info("session %s is not renewed: %s", session_id, error)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                for session in self._sessions.expired():
                    logger.info("session %s expired", session.session_id)
                    await self._end(session)
                if self._has_ended:
                    self._has_ended = False
                    await asyncio.to_thread(give_back)
            except OSError as error:
                logger.warning("expired sessions: %s", error)

    async def _free(self, session_id: str) -> None:
        """Free what a session that is over holds in the other services; they would in time."""
        for free in (
            lambda: self._tracker.delete_session(session_id),
            lambda: self._encoder.unpin(session_id, []),
        ):
            try:
                await free()
            except SessionNotFound:
                pass
            except (MaskmeshError, grpc.RpcError) as error:
                logger.warning("session %s is not freed everywhere: %s", session_id, error)


# The event loop holds tasks weakly: somebody must hold them until they are done.
_spawned: set["asyncio.Task[None]"] = set()


def _spawn(work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    task = asyncio.ensure_future(work)
    _spawned.add(task)
    task.add_done_callback(_spawned.discard)
    return task
