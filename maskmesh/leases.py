"""Leases: sessions that end unless they are used."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from maskmesh.errors import ResourceExhausted, SessionNotFound
from maskmesh.scheduling.admission import SESSION_SECONDS, retry_after


@dataclass(slots=True, eq=False)
class Lease:
    """A session that ends ``ttl_seconds`` after its last use."""

    session_id: str
    ttl_seconds: float
    expires: float = field(default=0.0, kw_only=True)
    """When the lease ends, on the monotonic clock."""

    def renew(self) -> None:
        """Begin the lease anew."""
        self.expires = time.monotonic() + self.ttl_seconds

    @property
    def idle_seconds(self) -> float:
        """Seconds since its last use."""
        return time.monotonic() - (self.expires - self.ttl_seconds)

    @property
    def is_expired(self) -> bool:
        """Whether the lease has ended."""
        return self.expires <= time.monotonic()


L = TypeVar("L", bound=Lease)


class LeaseTable(Generic[L]):
    """At most ``max_sessions`` sessions by id."""

    def __init__(self, *, max_sessions: int) -> None:
        self.max_sessions = max_sessions
        self._sessions: dict[str, L] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[L]:
        return iter(list(self._sessions.values()))

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._sessions

    def check_room(self) -> None:
        """Raises ResourceExhausted if the table is full."""
        if len(self._sessions) >= self.max_sessions:
            raise ResourceExhausted(
                f"{self.max_sessions} sessions are open",
                resource="sessions",
                retry_seconds=retry_after(SESSION_SECONDS),
            )

    def add(self, session: L) -> None:
        """Begin the lease of a session."""
        session.renew()
        self._sessions[session.session_id] = session

    def find_unrenewed(self, session_id: str) -> L | None:
        """The session, None if it is not here or its lease has ended; the lease is not renewed."""
        session = self._sessions.get(session_id)
        return None if session is None or session.is_expired else session

    def get(self, session_id: str) -> L:
        """Find a session and renew its lease.  Raises SessionNotFound."""
        session = self.find_unrenewed(session_id)
        if session is None:
            raise SessionNotFound("there is no such session", session_id=session_id)
        session.renew()
        return session

    def pop(self, session_id: str) -> L | None:
        """Remove a session; None if it is not here."""
        return self._sessions.pop(session_id, None)

    def expired(self) -> list[L]:
        """The sessions whose leases have ended."""
        return [session for session in self._sessions.values() if session.is_expired]
