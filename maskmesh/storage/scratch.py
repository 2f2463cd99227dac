"""Folders for what a process keeps on disk while it lives, and may leave behind when it is killed."""

import contextlib
import fcntl
import shutil
import tempfile
from pathlib import Path

_LOCK = "lock"


class ScratchFolder:
    """A new folder that is deleted by :meth:`close`.

    Whoever makes one deletes those of equal ``prefix`` beside it whose process was killed: a living one
    holds a lock on a file in its folder.  ``parent`` None is the system's temporary folder.
    """

    def __init__(self, prefix: str, parent: Path | None) -> None:
        if parent is not None:
            parent.mkdir(parents=True, exist_ok=True)
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        # Locked before it has the name that others look for.
        unnamed = self.path / f"{_LOCK}.new"
        self._lock = unnamed.open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unnamed.rename(self.path / _LOCK)
        _sweep(self.path.parent, prefix)

    def close(self) -> None:
        """Delete the folder and all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def _sweep(parent: Path, prefix: str) -> None:
    for folder in parent.glob(f"{prefix}*"):
        # A folder without a lock yet is being made; one that is gone was swept by somebody else.
        with contextlib.suppress(OSError), (folder / _LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
