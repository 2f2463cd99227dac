"""Moves what idle sessions hold in memory to their archives."""

from tracker_svc.sessions.session import Session


def is_offloadable(session: Session, idle_seconds: float) -> bool:
    """Whether a session was not used for so long and has tracked frames in memory that could be on disk."""
    if session.archive is None or session.is_propagating or session.has_ended or session.lock.locked():
        return False
    is_idle = session.idle_seconds > idle_seconds
    return is_idle and any(obj.bank.tracked.in_memory for obj in session.objects.values())


def offload(session: Session) -> None:
    """Move the states of tracked frames to the archive; runs on the device's thread, under the lock."""
    for obj in session.objects.values():
        obj.bank.tracked.offload()
