"""The sessions of one tracker, and the deletion of their archives."""

import logging
import sqlite3
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from maskmesh.errors import InvalidRequest
from maskmesh.leases import LeaseTable
from tracker_svc.memory.archive import SessionArchive
from tracker_svc.sessions.limits import SessionLimits
from tracker_svc.sessions.session import Session

logger = logging.getLogger(__name__)


class SessionTable(LeaseTable[Session]):
    """Sessions by id, with their archives in ``folder``.  Used on one event loop only.

    ``ttl_seconds`` is the maximum and default lease.
    """

    def __init__(
        self,
        *,
        max_sessions: int,
        ttl_seconds: float,
        limits: SessionLimits,
        folder: Path,
        device: torch.device,
    ) -> None:
        super().__init__(max_sessions=max_sessions)
        self._ttl_seconds = ttl_seconds
        self._limits = limits
        self._folder = folder
        self._device = device
        self.on_end: Callable[[Session], None] = lambda session: None
        """Called with each session that ends."""
        self._deleter = ThreadPoolExecutor(1, thread_name_prefix="delete-archives")

    @property
    def num_propagating(self) -> int:
        """Sessions with an open propagation."""
        return sum(session.is_propagating for session in self)

    def create(self, session_id: str, ttl_seconds: float = 0.0, *, live: bool = False) -> Session:
        """Create a session; ``ttl_seconds`` 0 means the default lease.

        Raises InvalidRequest if the id is empty or in use, ResourceExhausted if the table is full.
        """
        self._check_new(session_id)
        session = self.make(session_id, ttl_seconds, live=live)
        self.admit(session)
        return session

    def make(self, session_id: str, ttl_seconds: float = 0.0, *, live: bool = False) -> Session:
        """A session that is not in the table yet; :meth:`admit` adds it, :meth:`free` frees it."""
        archive = None
        if not live:
            # Callers choose session ids, so an id is not used as a file name.
            path = self._folder / f"{uuid.uuid4().hex}.sqlite"
            archive = SessionArchive(session_id, path, max_bytes=self._limits.disk_bytes, device=self._device)
        ttl = min(ttl_seconds or self._ttl_seconds, self._ttl_seconds)
        return Session(session_id, ttl, limits=self._limits, archive=archive)

    def admit(self, session: Session) -> None:
        """Add a session and begin its lease.  Raises as :meth:`create` does."""
        self._check_new(session.session_id)
        self.add(session)

    def end(self, session_id: str) -> None:
        """End a session, if the table has it."""
        if (session := self.pop(session_id)) is not None:
            self.on_end(session)
            self.free(session)

    def sweep(self) -> int:
        """End the sessions whose leases have expired; returns their number."""
        expired = self.expired()
        for session in expired:
            self.end(session.session_id)
        return len(expired)

    def free(self, session: Session) -> None:
        """Delete a session's archive on a thread, because the deletion of a large file takes time."""
        session.has_ended = True
        if session.archive is not None:
            self._deleter.submit(_delete, session.archive)

    def close(self) -> None:
        """Wait until the archives of ended sessions are deleted."""
        self._deleter.shutdown()

    def _check_new(self, session_id: str) -> None:
        self.sweep()
        if not session_id or session_id in self:
            raise InvalidRequest("the session id is empty or in use", field="session_id")
        self.check_room()


def _delete(archive: SessionArchive) -> None:
    try:
        archive.close()
    except (OSError, sqlite3.Error) as error:
        logger.warning("an archive could not be deleted: %s", error)
