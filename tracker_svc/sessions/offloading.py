"""Moves what idle sessions hold in memory to their archives."""

import asyncio
import logging
import sqlite3
from collections.abc import Iterable

from maskmesh.scheduling.malloc import trim_heap
from tracker_svc.sessions.session import Session

logger = logging.getLogger(__name__)

CHECK_SECONDS = 1.0


async def offload_idle(sessions: Iterable[Session], idle_seconds: float) -> None:
    """Offload sessions that were not used for ``idle_seconds``, again and again.

    ``sessions`` may change in between.  A session that cannot be offloaded is logged and stays in memory.
    """
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        for session in sessions:
            if not is_offloadable(session, idle_seconds):
                continue
            async with session.lock:  # nobody holds it
                try:
                    await asyncio.to_thread(offload, session)
                except (sqlite3.Error, OSError) as error:
                    logger.warning("session %s is not offloaded: %s", session.session_id, error)
                # The copy of the session in the store is up to date; this releases the states in memory.
                session.replicator.enqueue()
            await asyncio.to_thread(trim_heap)


def is_offloadable(session: Session, idle_seconds: float) -> bool:
    """Whether a session was not used for so long and has tracked frames in memory that could be on disk."""
    if session.archive is None or session.is_propagating or session.has_ended or session.lock.locked():
        return False
    is_idle = session.idle_seconds > idle_seconds
    return is_idle and any(obj.bank.tracked.in_memory for obj in session.objects.values())


def offload(session: Session) -> None:
    """Move the states of tracked frames to the archive, under the session's lock.  Blocks."""
    for obj in session.objects.values():
        obj.bank.tracked.offload()
