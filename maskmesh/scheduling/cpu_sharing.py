"""How services on one machine share its cores: threads of each, by how many others compute at the moment."""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

from maskmesh.scheduling.batching import LARGEST_SIDE

T = TypeVar("T")

# A process that tests a lock holds it for some microseconds.
LOCK_ATTEMPTS = 10
LOCK_PAUSE_SECONDS = 0.0001


class ThreadLayout(NamedTuple):
    """Threads of one operation at most, and whether other services on the machine reduce them."""

    threads: int
    is_shared: bool
    reason: str


def choose_layout(
    threads: int, *, cores: int, shares_cores: bool, device: str, image_size: int
) -> ThreadLayout:
    """The layout for a model of ``image_size`` squared; 0 ``threads`` leave the choice to this function.

    ``cores`` is the framework's own number of threads, which respects limits and variables.  Services that
    share cores divide them for good if the model is small, because its operations are too short to be divided
    anew; services with a large model take the cores that the others leave idle.
    """
    if threads:
        return ThreadLayout(threads, False, "as set")
    if not shares_cores or not device.startswith("cpu"):
        return ThreadLayout(cores, False, "all cores")
    if image_size <= LARGEST_SIDE:
        return ThreadLayout(max(1, cores // 2), False, "a small model on its part of the cores")
    return ThreadLayout(cores, True, "all cores, or a part of them while other services compute")


class CorePolicy:
    """How many threads a device worker computes with.  This policy leaves them as they are."""

    def begin(self) -> None:
        """Called before the worker computes."""

    def adjust(self) -> None:
        """Called between blocks of work; must take microseconds."""

    def end(self) -> None:
        """Called when the worker has no work."""

    def warm_up(self, work: Callable[[], T]) -> T:
        """Do ``work`` once with each number of threads that the policy may choose; returns the last
        result.
        """
        return work()

    def close(self) -> None:
        """Free what the policy holds."""


class SharedCores(CorePolicy):
    """All cores while the service computes alone, an equal part of them while others compute too.

    Two processes that compute with as many threads as there are cores delay one another at every barrier.
    Each service that computes locks a file of its own, which the system unlocks if the process dies; each
    counts the locks of the others in :meth:`adjust`.  No service waits for another.  Used by one thread.
    """

    def __init__(self, folder: Path, name: str, *, cores: int, set_threads: Callable[[int], None]) -> None:
        """``folder`` is common to the services that share cores; ``name`` is this service's own.

        ``set_threads`` sets the framework's number of threads.  Raises OSError if a file cannot be created.
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
        """The numbers of threads while two services compute and while one does."""
        return sorted({max(1, self._cores // 2), self._cores})

    def begin(self) -> None:
        """Note that this service computes, and choose the number of threads.

        Never raises and never blocks: a process that was stopped while it tested the lock keeps it, and the
        others then take this service for idle.  A service that began after the folder was deleted is not
        seen.
        """
        for _ in range(LOCK_ATTEMPTS):
            if _try_lock(self._own):
                break
            time.sleep(LOCK_PAUSE_SECONDS)
        with contextlib.suppress(OSError):
            for path in self._folder.iterdir():
                if path.name != self._name and path.name not in self._others:
                    self._others[path.name] = path.open("a")
        self.adjust()

    def adjust(self) -> None:
        """Choose the number of threads anew."""
        if not self._is_fixed:
            computing = 1 + sum(map(_is_locked, self._others.values()))
            self._choose(max(1, self._cores // computing))

    def warm_up(self, work: Callable[[], T]) -> T:
        """Do ``work`` with each of :attr:`choices`."""
        self._is_fixed = True
        try:
            for threads in self.choices:
                self._choose(threads)
                result = work()
        finally:
            self._is_fixed = False
        return result

    def end(self) -> None:
        """Note that this service is idle."""
        fcntl.flock(self._own, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the files."""
        for file in (self._own, *self._others.values()):
            file.close()

    def _choose(self, threads: int) -> None:
        if threads != self._threads:
            self._threads = threads
            self._set_threads(threads)


def core_policy(
    folder: Path | None, service: str, layout: ThreadLayout, set_threads: Callable[[int], None]
) -> CorePolicy:
    """The policy of a layout: :class:`SharedCores` in ``folder`` if the layout is shared.

    ``service`` is the kind of service.  Raises OSError if the folder cannot be created.
    """
    if folder is None or not layout.is_shared:
        return CorePolicy()
    return SharedCores(folder, f"{service}-{os.getpid()}", cores=layout.threads, set_threads=set_threads)


def _is_locked(file: IO[str]) -> bool:
    """Whether another process holds the lock of a file."""
    if _try_lock(file):
        fcntl.flock(file, fcntl.LOCK_UN)
        return False
    return True


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
