"""Scratch folders of a process, which are deleted even if the process was killed."""

import contextlib
import fcntl
import shutil
import tempfile
from pathlib import Path

_LOCK = "lock"

_open_folders: set["ScratchFolder"] = set()


class ScratchFolder:
    """A new folder that is deleted by :meth:`close`.

    A process holds a lock on a file in its folder; making a folder deletes those with the same ``prefix``
    beside it whose lock is free.  ``parent`` None is the system's temporary folder.
    """

    def __init__(self, prefix: str, parent: Path | None) -> None:
        if parent is not None:
            parent.mkdir(parents=True, exist_ok=True)
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        # The file is locked before it gets the name that other processes look for.
        unnamed = self.path / f"{_LOCK}.new"
        self._lock = unnamed.open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unnamed.rename(self.path / _LOCK)
        _open_folders.add(self)
        delete_abandoned(self.path.parent, prefix)

    def close(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()
        _open_folders.discard(self)


def delete_all() -> None:
    """Delete the folders of this process that are still open, when it must end at once."""
    for folder in list(_open_folders):
        folder.close()


def delete_abandoned(parent: Path, prefix: str) -> None:
    """Delete the folders of processes that have ended."""
    for folder in parent.glob(f"{prefix}*"):
        # A folder without a lock file is being made; one that is gone was deleted by another process.
        with contextlib.suppress(OSError), (folder / _LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
