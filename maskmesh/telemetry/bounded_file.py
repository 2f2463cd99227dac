"""A file of trace lines that is bounded in size."""

import os
from pathlib import Path

# The suffix of the predecessor.
OLD_SUFFIX = ".old.jsonl"


class BoundedFile:
    """A text stream into a file and its predecessor, together at most ``max_bytes``.

    When the file has half of that it is renamed to ``NAME.old.jsonl``, in place of the previous one, and a
    new file is begun: the newest half is always there.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._half = max_bytes // 2
        self._file = path.open("a", encoding="utf-8")
        if not _ends_with_newline(path):
            self._file.write("\n")

    def write(self, text: str) -> int:
        """Write one line."""
        if self._file.tell() and self._file.tell() + len(text) > self._half:
            self._file.close()
            self._path.replace(self._path.with_suffix(OLD_SUFFIX))
            self._file = self._path.open("a", encoding="utf-8")
        return self._file.write(text)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    @property
    def closed(self) -> bool:
        return self._file.closed


def _ends_with_newline(path: Path) -> bool:
    """Whether a file ends with a whole line; a killed process may leave a part of one."""
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
