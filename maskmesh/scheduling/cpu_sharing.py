"""Cores that services on one machine share."""

import contextlib
import fcntl
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, TypeVar

T = TypeVar("T")

# Whoever looks at a lock holds it for some microseconds.
ATTEMPTS = 10
ATTEMPT_SECONDS = 0.0001


class SharedCores:
    """Threads for a service by how many others compute at the moment: all cores, or a part of them each.

    Two processes that compute side by side with as many threads as there are cores hold one another up at
    every barrier.  With a part each both go on, and what one leaves idle the other takes.  Who computes
    holds a lock on a file of its own, which the system takes from a process that dies; nobody waits for
    anybody.  Whoever is alone takes note of another at its next :meth:`adjust`.  Used by one thread.
    """

    def __init__(self, folder: Path, name: str, *, cores: int, set_threads: Callable[[int], None]) -> None:
        """``folder`` is the same for all who share; ``name`` is this service's own.

        ``set_threads`` is how to tell the framework.  Raises OSError where files cannot be made.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._own = (folder / name).open("a")
        self._name = name
        self._others: dict[str, IO[str]] = {}
        self._cores = cores
        self._set_threads = set_threads
        self._threads = 0
        self._is_fixed = False

    @property
    def choices(self) -> list[int]:
        """The numbers of threads for one and for two who compute, the larger one last."""
        return sorted({max(1, self._cores // 2), self._cores})

    def begin(self) -> None:
        """Say that this service computes from now on, and choose the number of threads.

        Never raises, and never waits for long: who was stopped while it looked keeps the lock, and others
        then take this service for idle.  Those who come after the folder was deleted are not known here.
        """
        for _ in range(ATTEMPTS):
            if _try(self._own):
                break
            time.sleep(ATTEMPT_SECONDS)
        with contextlib.suppress(OSError):
            for path in self._folder.iterdir():
                if path.name != self._name and path.name not in self._others:
                    self._others[path.name] = path.open("a")
        self.adjust()

    def adjust(self) -> None:
        """Choose the number of threads anew; cheap enough for the middle of any work."""
        if not self._is_fixed:
            busy = 1 + sum(map(_is_held, self._others.values()))
            self._choose(max(1, self._cores // busy))

    def with_each(self, work: Callable[[], T]) -> T:
        """Do ``work`` with each number of threads that may be chosen, so that all are warm."""
        self._is_fixed = True
        try:
            for threads in self.choices:
                self._choose(threads)
                result = work()
        finally:
            self._is_fixed = False
        return result

    def end(self) -> None:
        """Say that this service computes no more for now."""
        fcntl.flock(self._own, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the files."""
        for file in (self._own, *self._others.values()):
            file.close()

    def _choose(self, threads: int) -> None:
        if threads != self._threads:
            self._threads = threads
            self._set_threads(threads)


def _is_held(file: IO[str]) -> bool:
    """Whether somebody else has the lock of a file."""
    if _try(file):
        fcntl.flock(file, fcntl.LOCK_UN)
        return False
    return True


def _try(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
