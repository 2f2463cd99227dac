"""Sessions as leases: objects, order, and an end for those that nobody uses."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

from maskmesh import telemetry
from maskmesh.errors import (
    InvalidRequest,
    NothingPrompted,
    ObjectNotFound,
    ResourceExhausted,
    SessionBusy,
    SessionNotFound,
)
from maskmesh.types import EmbeddingRef
from tracker_svc.objects import TrackedObject


@dataclass(slots=True, eq=False)
class Session:
    """One video.  Everything that reads or changes its objects holds ``lock``, which serves in order."""

    session_id: str
    ttl_seconds: float
    objects: dict[int, TrackedObject] = field(default_factory=dict)
    """By ``obj_id``, in the order in which they were added."""
    prompted_refs: dict[int, EmbeddingRef] = field(default_factory=dict)
    """Where the embeddings of prompted frames are that are not memorized yet."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    expires: float = 0.0
    _is_propagating: bool = False

    def renew(self) -> None:
        """Begin the lease anew."""
        self.expires = time.monotonic() + self.ttl_seconds

    @contextlib.asynccontextmanager
    async def in_turn(self, recorder: telemetry.StageRecorder) -> AsyncIterator[None]:
        """Hold ``lock``; the wait for it is recorded as a ``queue`` stage."""
        start = time.time_ns()
        async with self.lock:
            recorder.add(telemetry.QUEUE, start, time.time_ns(), {telemetry.WAITS_FOR: "session"})
            yield

    @contextlib.contextmanager
    def propagating(self) -> Iterator[None]:
        """Hold the session's one place for a propagation.  Raises SessionBusy where it is taken."""
        if self._is_propagating:
            raise SessionBusy("the session is already propagating", session_id=self.session_id)
        self._is_propagating = True
        try:
            yield
        finally:
            self._is_propagating = False

    def check_prompted(self) -> None:
        """Raises NothingPrompted where there is no object."""
        if not self.objects:
            raise NothingPrompted("no object has been prompted yet", session_id=self.session_id)

    def first_prompted_frame(self) -> int:
        """The earliest frame on which an object is prompted.  Raises NothingPrompted."""
        self.check_prompted()
        return min(frame for o in self.objects.values() for frame in o.prompts)

    def pending_frames(self) -> list[int]:
        """Prompted frames that are not memorized yet, in order."""
        return sorted({f for o in self.objects.values() for f in o.bank.prompted})

    def remove_object(self, obj_id: int) -> None:
        """Forget one object.  Raises ObjectNotFound."""
        if obj_id not in self.objects:
            raise ObjectNotFound(
                f"the session has no object {obj_id}", session_id=self.session_id, obj_id=obj_id
            )
        del self.objects[obj_id]
        pending = set(self.pending_frames())
        self.prompted_refs = {f: r for f, r in self.prompted_refs.items() if f in pending}

    def reset(self) -> None:
        """Forget all objects."""
        self.objects.clear()
        self.prompted_refs.clear()


class SessionStore:
    """The sessions of one tracker.  Used on one event loop only."""

    def __init__(self, *, max_sessions: int, ttl_seconds: float) -> None:
        self._max_sessions = max_sessions
        self._ttl_seconds = ttl_seconds
        self._sessions: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def create(self, session_id: str, ttl_seconds: float = 0.0) -> Session:
        """Begin a session; ``ttl_seconds`` of 0 means the longest that is allowed.

        Raises InvalidRequest for an id that is empty or taken, ResourceExhausted at the limit.
        """
        self.sweep()
        if not session_id or session_id in self._sessions:
            raise InvalidRequest("a session needs a new id", field="session_id")
        if len(self._sessions) >= self._max_sessions:
            raise ResourceExhausted(
                f"{self._max_sessions} sessions are open", resource="sessions", retry_seconds=5.0
            )
        session = Session(session_id, min(ttl_seconds or self._ttl_seconds, self._ttl_seconds))
        session.renew()
        self._sessions[session_id] = session
        return session

    def get(self, session_id: str) -> Session:
        """Find a session and renew its lease.  Raises SessionNotFound."""
        session = self._sessions.get(session_id)
        if session is None or session.expires <= time.monotonic():
            self._sessions.pop(session_id, None)
            raise SessionNotFound("there is no such session", session_id=session_id)
        session.renew()
        return session

    def delete(self, session_id: str) -> None:
        """End a session.  Raises SessionNotFound."""
        self.get(session_id)
        del self._sessions[session_id]

    def sweep(self) -> int:
        """End the sessions whose leases are over; returns how many there were."""
        now = time.monotonic()
        expired = [i for i, s in self._sessions.items() if s.expires <= now]
        for session_id in expired:
            del self._sessions[session_id]
        return len(expired)
