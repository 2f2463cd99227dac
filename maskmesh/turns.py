"""Turns on cores that services on one machine share."""

import fcntl
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

logger = logging.getLogger(__name__)

# How often a turn is asked for, and how long until its holder is taken for stopped.
POLL_SECONDS = 0.001
PATIENCE_SECONDS = 10.0

# For so long nobody is waited for any more after that.
SUSPENDED_SECONDS = 60.0


class Turns:
    """Lets one of several processes compute at a time, with all cores; urgent work goes first.

    Two processes that compute side by side with as many threads as there are cores hold one another up at
    every barrier, and push one another's data out of the caches.  The turn is a lock on the file ``path``,
    which the system takes from a process that dies; one that is stopped is waited for with bounded
    patience.  Who is urgent, and who was interrupted, holds another lock while it waits.  Among all others
    there is no order.  Used by one thread.  Raises OSError where the files cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._turn, self._urgent, self._interrupted = (
            path.with_name(path.name + suffix).open("a") for suffix in ("", ".urgent", ".interrupted")
        )
        self._suspended_until = 0.0

    def take(
        self,
        is_urgent: Callable[[], bool],
        *,
        wait: Callable[[float], object] = time.sleep,
        is_over: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Wait for a turn; False where ``is_over`` says that it is not wanted any more.

        ``is_urgent`` is asked again and again: what waits for the turn can become urgent.  ``wait`` is how
        to wait for some seconds.
        """
        holds_urgent = False

        def has_turn() -> bool:
            nonlocal holds_urgent
            if not holds_urgent and is_urgent():
                holds_urgent = _try(self._urgent)
            may_begin = holds_urgent or not (_is_held(self._urgent) or _is_held(self._interrupted))
            return may_begin and _try(self._turn)

        try:
            return self._poll(has_turn, wait, is_over)
        finally:
            if holds_urgent:
                _release(self._urgent)

    def give_back(self) -> None:
        """End the turn."""
        _release(self._turn)

    def give_way(self) -> bool:
        """Within a turn that is not urgent: let urgent work of others go first; whether there was any.

        What was interrupted goes on before anything that has not begun.
        """
        if time.monotonic() < self._suspended_until or not _is_held(self._urgent):
            return False
        _try(self._interrupted)  # nobody else is: it could not have begun
        _release(self._turn)
        try:
            self._poll(lambda: not _is_held(self._urgent) and _try(self._turn), time.sleep, lambda: False)
        finally:
            _release(self._interrupted)
        return True

    def close(self) -> None:
        """Close the files."""
        for file in (self._turn, self._urgent, self._interrupted):
            file.close()

    def _poll(
        self, has_turn: Callable[[], bool], wait: Callable[[float], object], is_over: Callable[[], bool]
    ) -> bool:
        now = time.monotonic()
        if now < self._suspended_until:
            return True
        deadline = now + PATIENCE_SECONDS
        while not is_over():
            if has_turn():
                return True
            if time.monotonic() > deadline:
                logger.warning("somebody holds the cores and seems to be stopped: not waiting for turns")
                self._suspended_until = time.monotonic() + SUSPENDED_SECONDS
                return True
            wait(POLL_SECONDS)
        return False


def _try(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_held(file: IO[str]) -> bool:
    """Whether somebody else has the lock of a file."""
    if _try(file):
        _release(file)
        return False
    return True


def _release(file: IO[str]) -> None:
    fcntl.flock(file, fcntl.LOCK_UN)
