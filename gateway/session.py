"""Sessions as the gateway sees them: frames, where their embeddings are, and a lease."""

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

from opentelemetry.trace import SpanContext

from gateway.frame_store import FrameLimits, FrameReader, FrameStore
from maskmesh.errors import ResourceExhausted, SessionNotFound
from maskmesh.types import EmbeddingRef, Image

# A reference is small, but a video is long: of older frames, the encoder is asked again.
MAX_REFS = 10_000


@dataclass(slots=True, eq=False)
class GatewaySession:
    """One session; its objects live in the tracker."""

    session_id: str
    ttl_seconds: float
    frames: FrameStore
    span: SpanContext
    """The call that created the session, to which the traces of its frames are linked."""
    refs: dict[int, EmbeddingRef] = field(default_factory=dict)
    """Embeddings that were made of its frames, by frame index; they may be gone by now."""
    appending: asyncio.Lock = field(default_factory=asyncio.Lock)
    expires: float = 0.0
    _reader: FrameReader | None = None

    def renew(self) -> None:
        """Begin the lease anew."""
        self.expires = time.monotonic() + self.ttl_seconds

    async def read(self, frame_index: int) -> Image:
        """One frame, for a click; propagations have readers of their own."""
        if self._reader is None:
            self._reader = self.frames.open_reader()
        return await self._reader.read(frame_index)

    def remember_ref(self, frame_index: int, ref: EmbeddingRef) -> None:
        """After a frame was encoded."""
        self.refs[frame_index] = ref
        while len(self.refs) > MAX_REFS:
            del self.refs[next(iter(self.refs))]

    def forget_ref(self, frame_index: int) -> None:
        """After the embedding of a frame turned out to be gone."""
        self.refs.pop(frame_index, None)

    async def close(self) -> None:
        """Delete the frames."""
        if self._reader is not None:
            self._reader.close()
        await self.frames.close()


class GatewaySessions:
    """The sessions of one gateway.  Used on one event loop only."""

    def __init__(self, *, folder: Path | None, limits: FrameLimits, max_sessions: int) -> None:
        self._folder = folder
        self._limits = limits
        self._max_sessions = max_sessions
        self._sessions: dict[str, GatewaySession] = {}

    def check_room(self) -> None:
        """Raises ResourceExhausted where there are as many sessions as there may be."""
        if len(self._sessions) >= self._max_sessions:
            raise ResourceExhausted(
                f"{self._max_sessions} sessions are open", resource="sessions", retry_seconds=5.0
            )

    def create(self, session_id: str, ttl_seconds: float, span: SpanContext) -> GatewaySession:
        """Begin a session."""
        frames = FrameStore(session_id, self._folder, self._limits)
        session = GatewaySession(session_id, ttl_seconds, frames, span)
        session.renew()
        self._sessions[session_id] = session
        return session

    def get(self, session_id: str) -> GatewaySession:
        """Find a session and renew its lease.  Raises SessionNotFound."""
        session = self._sessions.get(session_id)
        if session is None or session.expires <= time.monotonic():
            raise SessionNotFound("there is no such session", session_id=session_id)
        session.renew()
        return session

    async def delete(self, session_id: str) -> None:
        """End a session and delete its frames.  Raises SessionNotFound."""
        self.get(session_id)
        await self._sessions.pop(session_id).close()

    async def expired(self) -> list[str]:
        """Sessions whose leases are over; they are ended and named."""
        now = time.monotonic()
        over = [i for i, s in self._sessions.items() if s.expires <= now]
        for session_id in over:
            await self._sessions.pop(session_id).close()
        return over

    async def close(self) -> None:
        """End all sessions."""
        while self._sessions:
            await self._sessions.popitem()[1].close()
