"""The files of a recorded run: windows and usage as JSON lines, and a summary."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

WINDOWS, USAGE, SUMMARY = "windows.jsonl", "usage.jsonl", "summary.json"


class RunFiles:
    """Writes the records of a run into a folder, line by line, so that a run that ends early has its lines.

    A context manager.
    """

    def __init__(self, folder: Path) -> None:
        """Raises OSError if the folder cannot be made."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._windows = (folder / WINDOWS).open("w", encoding="utf-8", buffering=1)
        self._usage = (folder / USAGE).open("w", encoding="utf-8", buffering=1)
        (folder / SUMMARY).unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._windows.close()
        self._usage.close()

    def write_window(self, line: Mapping[str, Any]) -> None:
        """Add a window.  Raises OSError."""
        _write(self._windows, line)

    def write_usage(self, line: Mapping[str, Any]) -> None:
        """Add what the services used at a time.  Raises OSError."""
        _write(self._usage, line)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write the summary.  Raises OSError."""
        (self._folder / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def _write(file: IO[str], line: Mapping[str, Any]) -> None:
    file.write(json.dumps(line) + "\n")


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file of records; a last line that is cut off is left out.

    Raises OSError, and ValueError for a line that is no JSON object.
    """
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            content = json.loads(line)
        except ValueError:
            if number == len(lines):
                return
            raise ValueError(f"{path}: line {number} is no JSON") from None
        if not isinstance(content, dict):
            raise ValueError(f"{path}: line {number} is no JSON object")
        yield content


def read_summary(path: Path) -> dict[str, Any]:
    """The summary of a run; empty if the run has none.  Raises OSError, ValueError."""
    if not path.exists():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{path}: no JSON object")
    return content
