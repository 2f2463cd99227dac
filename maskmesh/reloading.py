"""Files that are read again when they have changed: certificates and API keys."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

# How often files are checked at most.
CHECK_SECONDS = 1.0

Stamp: TypeAlias = tuple[tuple[int, ...], ...]


class FileWatch:
    """Detects changes of files.  A change is reported until :meth:`accept` confirms that it was read."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Raises OSError if a file does not exist."""
        self._paths = paths
        self._accepted = self._stamp()
        self._checked = time.monotonic()

    def poll(self) -> Stamp | None:
        """The stamp of changed files; None if they are unchanged, missing, or were checked just now."""
        if time.monotonic() - self._checked < CHECK_SECONDS:
            return None
        self._checked = time.monotonic()
        try:
            stamp = self._stamp()
        except OSError:  # a file is being replaced
            return None
        return None if stamp == self._accepted else stamp

    def accept(self, stamp: Stamp) -> None:
        """Note that the files of ``stamp`` were read."""
        self._accepted = stamp

    def _stamp(self) -> Stamp:
        stats = [path.stat() for path in self._paths]
        return tuple((s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_size) for s in stats)
