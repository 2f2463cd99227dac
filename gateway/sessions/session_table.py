"""The sessions of one gateway, and the limits of callers on them."""

from pathlib import Path

from opentelemetry.trace import SpanContext

from gateway.api_keys import Caller
from gateway.frames.decoder_pool import DecoderPool
from gateway.frames.frame_replication import FrameReplicator
from gateway.frames.frame_ring import FrameRing
from gateway.frames.frame_store import FrameLimits, FrameStore
from gateway.frames.frames import Frames
from gateway.frames.ring_replication import RingReplicator
from gateway.frames.upload_replication import UploadReplicator
from gateway.sessions.session import GatewaySession
from maskmesh.errors import MaskmeshError, ResourceExhausted
from maskmesh.leases import LeaseTable
from maskmesh.scheduling.admission import SESSION_SECONDS, retry_after
from maskmesh.status import SessionCounts
from maskmesh.storage.session_record import Owner
from maskmesh.storage.session_store import SessionStore


class GatewaySessionTable(LeaseTable[GatewaySession]):
    """Sessions by id, with their frames in ``folder`` and in the store.  Used on one event loop only."""

    def __init__(
        self,
        *,
        folder: Path | None,
        limits: FrameLimits,
        decoders: DecoderPool,
        store: SessionStore | None,
        max_sessions: int,
    ) -> None:
        super().__init__(max_sessions=max_sessions)
        self._folder = folder
        self._limits = limits
        self._decoders = decoders
        self._store = store
        self._closing: MaskmeshError | None = None

    @property
    def counts(self) -> SessionCounts:
        """The sessions whose frames are at this gateway."""
        streaming = sum(session.is_open for session in self)
        return SessionCounts(open=len(self), propagating=streaming, limit=self.max_sessions)

    def check_room_for(self, caller: Caller) -> None:
        """Raises ResourceExhausted if the table is full, or the caller has its maximum number of
        sessions.
        """
        if caller.max_sessions is not None:
            num_own = sum(session.caller.name == caller.name for session in self)
            if num_own >= caller.max_sessions:
                raise ResourceExhausted(
                    f"{caller.name} has {num_own} sessions",
                    resource="sessions",
                    retry_seconds=retry_after(SESSION_SECONDS),
                )
        self.check_room()

    def create(
        self,
        session_id: str,
        ttl_seconds: float,
        owner: Owner,
        caller: Caller,
        span: SpanContext,
        *,
        live: bool = False,
    ) -> GatewaySession:
        """Create a session without frames.  Raises ResourceExhausted if the table is full."""
        self.check_room()
        frames: Frames
        replicator = FrameReplicator()
        if live:
            frames = ring = FrameRing()
            if self._store is not None:
                replicator = RingReplicator(self._store, session_id, ring)
        else:
            frames = uploads = FrameStore(session_id, self._folder, self._limits, self._decoders)
            if self._store is not None:
                replicator = UploadReplicator(self._store, session_id, uploads)
        session = GatewaySession(session_id, ttl_seconds, frames, owner, caller, span, replicator)
        session.closing = self._closing
        self.add(session)
        return session

    def interrupt_streams(self, error: MaskmeshError) -> None:
        """End all streams with an error, and refuse new streams with it; the sessions are kept."""
        self._closing = error
        for session in self:
            session.closing = error
            session.interrupt(error)

    async def end(self, session: GatewaySession) -> None:
        """End a session and delete its frames."""
        if self.pop(session.session_id) is not None:
            await session.close()

    def check_bytes(self, caller: Caller) -> None:
        """Raises ResourceExhausted if the caller's frames, with those of uploads in progress, exceed its
        limit.
        """
        if caller.max_bytes is None:
            return
        caller_sessions = [session for session in self if session.caller.name == caller.name]
        if (
            sum(session.frames.num_bytes + session.upload_bytes for session in caller_sessions)
            > caller.max_bytes
        ):
            raise ResourceExhausted(
                f"the frames of all sessions exceed {caller.max_bytes} bytes", resource="bytes"
            )

    async def close(self) -> None:
        """End all sessions."""
        while len(self):  # a call in progress may add one meanwhile
            for session in self:
                await self.end(session)
