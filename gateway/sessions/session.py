"""Sessions as the gateway sees them: frames, where their embeddings are, and a lease."""

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import grpc
from opentelemetry.trace import SpanContext

from gateway.api_keys import Caller
from gateway.frames.frame_ring import FrameRing
from gateway.frames.frame_store import FrameLimits, FrameStore
from gateway.frames.frames import FrameReader, Frames
from maskmesh.errors import MaskmeshError, ResourceExhausted, SessionBusy, SessionNotFound
from maskmesh.rpc.idempotency import IdempotencyCache
from maskmesh.storage.session_store import Owner
from maskmesh.types import EmbeddingRef, Image

# A reference is small, but a video is long: of older frames, the encoder is asked again.
MAX_REFS = 10_000

# A client that left a stream and begins another is not always seen to have left first; and a stream that ends
# waits for what is under way.
MOMENT_SECONDS = 0.5
ENDING_SECONDS = 60.0
PAUSE_SECONDS = 0.01


class RingWriter(Protocol):
    """What puts frames into a store."""

    def knows(self, frames: Iterable[int]) -> None:
        """These are in the store already."""

    async def close(self) -> None:
        """Stop."""


class OpenStream(ABC):
    """What holds a session's one place for a stream of frames."""

    interruption: MaskmeshError | None = None
    """Why it was interrupted."""
    is_ending: bool = False
    """Whether it is about to leave its place."""

    def interrupt(self, error: MaskmeshError) -> None:
        """End the stream with an error, whatever it waits for: another one takes its place."""
        self.interruption = error
        self.stop(error)

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Raise why the stream was interrupted in place of what came of it."""
        try:
            yield
        except (MaskmeshError, grpc.RpcError):
            if self.interruption is not None:
                raise self.interruption from None
            raise

    @abstractmethod
    def stop(self, error: MaskmeshError) -> None:
        """Stop what is under way, and raise the error as soon as somebody waits for a frame."""


@dataclass(slots=True, eq=False)
class GatewaySession:
    """One session; its objects live in the tracker."""

    session_id: str
    ttl_seconds: float
    frames: Frames
    owner: Owner
    """The tracker that has its objects, as far as is known here."""
    caller: Caller
    """Whose it is."""
    span: SpanContext
    """The call that created the session, to which the traces of its frames are linked."""
    refs: dict[int, EmbeddingRef] = field(default_factory=dict)
    """Embeddings that were made of its frames, by frame index; they may be gone by now."""
    encoder_addresses: set[str] = field(default_factory=set)
    """Replicas that have made embeddings of its frames."""
    moving: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while another owner is looked for."""
    last_frame_index: int | None = None
    """The frame that was delivered last."""
    has_ended: bool = False
    appending: asyncio.Lock = field(default_factory=asyncio.Lock)
    answers: IdempotencyCache = field(default_factory=IdempotencyCache)
    """To uploads that came with an idempotency key."""
    ring: RingWriter | None = None
    """Puts the frames of a live session into the store."""
    expires: float = 0.0
    record_renewed: float = 0.0
    """When its lease in the store was, on the monotonic clock."""
    adding_bytes: int = 0
    """Of frames that are being added."""
    had_stream: bool = False
    """Whether a stream of frames was open before; the tracker may still be at its last step."""
    closing: MaskmeshError | None = None
    """Why no stream of frames begins here any more."""
    _reader: FrameReader | None = None
    _stream: OpenStream | None = None

    def renew(self) -> None:
        """Begin the lease anew."""
        self.expires = time.monotonic() + self.ttl_seconds

    @contextlib.asynccontextmanager
    async def streaming(self, stream: OpenStream, *, takes_over: bool) -> AsyncIterator[None]:
        """Hold the session's one place for a stream of frames.

        Waits for a stream whose client has gone: who leaves a loop begins the next one at once.  Raises
        SessionBusy where the place is taken; a stream that ``takes_over`` ends the one that is there, which
        may not know yet that its client has gone.
        """
        if takes_over and self._stream is not None:
            self._stream.interrupt(SessionBusy("another stream resumed", session_id=self.session_id))
        elif not takes_over:
            await self._wait_for_place()
        if self.closing is not None:
            raise self.closing
        self._stream = stream
        self.had_stream = True
        try:
            yield
        finally:
            if self._stream is stream:
                self._stream = None

    async def _wait_for_place(self) -> None:
        begun = time.monotonic()
        while self._stream is not None:
            patience = ENDING_SECONDS if self._stream.is_ending else MOMENT_SECONDS
            if time.monotonic() - begun >= patience:
                raise SessionBusy("the session is already propagating", session_id=self.session_id)
            await asyncio.sleep(PAUSE_SECONDS)

    async def read(self, frame_index: int) -> Image:
        """One frame, for a click; propagations have readers of their own."""
        if self._reader is None:
            self._reader = self.frames.open_reader()
        return await self._reader.read(frame_index)

    async def prepare(self) -> None:
        """After frames were added: what is done once for all of them is not left to the first click."""
        if self._reader is None:
            self._reader = self.frames.open_reader()
            await self._reader.prepare()

    def remember_ref(self, frame_index: int, ref: EmbeddingRef) -> None:
        """After a frame was encoded."""
        self.refs[frame_index] = ref
        self.encoder_addresses.add(ref.address)
        while len(self.refs) > MAX_REFS:
            del self.refs[next(iter(self.refs))]

    def forget_ref(self, frame_index: int) -> None:
        """After the embedding of a frame turned out to be gone."""
        self.refs.pop(frame_index, None)

    def holds(self, stream: OpenStream) -> bool:
        """Whether a stream has the session's place still."""
        return self._stream is stream

    def interrupt(self, error: MaskmeshError) -> None:
        """End its stream of frames with an error, if it has one."""
        if self._stream is not None:
            self._stream.interrupt(error)

    @property
    def is_live(self) -> bool:
        """Whether its frames come by a live stream."""
        return isinstance(self.frames, FrameRing)

    async def close(self) -> None:
        """End what is under way, and delete the frames."""
        self.has_ended = True
        self.interrupt(SessionNotFound("the session has ended", session_id=self.session_id))
        if self._reader is not None:
            self._reader.close()
        if self.ring is not None:
            await self.ring.close()
        await self.frames.close()


class GatewaySessions:
    """The sessions of one gateway.  Used on one event loop only."""

    def __init__(self, *, folder: Path | None, limits: FrameLimits, max_sessions: int) -> None:
        self._folder = folder
        self._limits = limits
        self._max_sessions = max_sessions
        self._sessions: dict[str, GatewaySession] = {}
        self._closing: MaskmeshError | None = None

    def __len__(self) -> int:
        return len(self._sessions)

    def check_room(self, caller: Caller | None) -> None:
        """Raises ResourceExhausted where there are as many sessions as there, or the caller's, may be."""
        if caller is not None and caller.max_sessions is not None:
            own = sum(session.caller.name == caller.name for session in self._sessions.values())
            if own >= caller.max_sessions:
                raise ResourceExhausted(
                    f"{caller.name} has {own} sessions", resource="sessions", retry_seconds=5.0
                )
        if len(self._sessions) >= self._max_sessions:
            raise ResourceExhausted(
                f"{self._max_sessions} sessions are open", resource="sessions", retry_seconds=5.0
            )

    def create(
        self,
        session_id: str,
        ttl_seconds: float,
        owner: Owner,
        caller: Caller,
        span: SpanContext,
        *,
        live: bool = False,
        is_new: bool = True,
    ) -> GatewaySession:
        """Begin a session, or a copy of one that another gateway began.  Raises ResourceExhausted."""
        self.check_room(caller if is_new else None)
        frames = FrameRing() if live else FrameStore(session_id, self._folder, self._limits)
        session = GatewaySession(session_id, ttl_seconds, frames, owner, caller, span)
        session.closing = self._closing
        session.renew()
        self._sessions[session_id] = session
        return session

    def find_unrenewed(self, session_id: str) -> GatewaySession | None:
        """A session if it is here; its lease goes on as before."""
        session = self._sessions.get(session_id)
        return None if session is None or session.expires <= time.monotonic() else session

    def get(self, session_id: str) -> GatewaySession:
        """Find a session and renew its lease.  Raises SessionNotFound."""
        session = self._sessions.get(session_id)
        if session is None or session.expires <= time.monotonic():
            raise SessionNotFound("there is no such session", session_id=session_id)
        session.renew()
        return session

    def interrupt_streams(self, error: MaskmeshError) -> None:
        """End all streams of frames with an error, also those that would begin; their sessions stay."""
        self._closing = error
        for session in self._sessions.values():
            session.closing = error
            session.interrupt(error)

    async def end(self, session: GatewaySession) -> None:
        """End a session and delete its frames."""
        if self._sessions.pop(session.session_id, None) is not None:
            await session.close()

    def check_bytes(self, caller: Caller) -> None:
        """Raises ResourceExhausted where a caller's frames take too much, with those on their way."""
        if caller.max_bytes is None:
            return
        own = [s for s in self._sessions.values() if s.caller.name == caller.name]
        used = sum(s.frames.num_bytes + s.adding_bytes for s in own)
        if used > caller.max_bytes:
            raise ResourceExhausted(
                f"the frames of all sessions take more than {caller.max_bytes} bytes", resource="bytes"
            )

    def all(self) -> list[GatewaySession]:
        """Every session that is here."""
        return list(self._sessions.values())

    def expired(self) -> list[GatewaySession]:
        """Sessions whose leases are over."""
        now = time.monotonic()
        return [s for s in self._sessions.values() if s.expires <= now]

    async def close(self) -> None:
        """End all sessions."""
        while self._sessions:
            await self._sessions.popitem()[1].close()
