"""The files of ``--motion``."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from maskmesh.points import MotionBoundary, MotionOptions, MotionWindow


def write_motion(path: Path, source: str, options: MotionOptions, windows: Sequence[MotionWindow]) -> None:
    """Write options, windows, and the boundaries of all windows together.  Raises OSError."""
    content = {
        "source": source,
        "options": _options_json(options),
        "windows": [_window_json(window) for window in windows],
        "boundaries": [
            dataclasses.asdict(boundary) | {"window": window.window}
            for window in windows
            for boundary in window.boundaries
        ],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


class MotionLog:
    """The motion of a stream as JSON lines: the options, then each window with its boundaries.

    A context manager.  A line is complete in the file when :meth:`write` returns.
    """

    def __init__(self, path: Path, source: str, options: MotionOptions) -> None:
        self._path = path
        self._first = {"source": source, "options": _options_json(options)}
        self._file: IO[str] | None = None

    def __enter__(self) -> "MotionLog":
        self._file = self._path.open("w", encoding="utf-8")
        self._write(self._first)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, window: MotionWindow) -> None:
        """Add a window.  Raises OSError."""
        boundaries = [dataclasses.asdict(boundary) for boundary in window.boundaries]
        self._write(_window_json(window) | {"boundaries": boundaries})

    def _write(self, content: dict[str, Any]) -> None:
        assert self._file is not None, "the context was entered"
        self._file.write(json.dumps(content) + "\n")
        self._file.flush()


def boundary_text(boundary: MotionBoundary) -> str:
    """A boundary for people."""
    event = "starts" if boundary.kind == "start" else "ends"
    time = "" if boundary.time is None else f" ({boundary.time:.2f} s)"
    code = "" if boundary.code is None else f", code {boundary.code}"
    return f"an action {event} at frame {boundary.frame_index}{time}{code}"


def _options_json(options: MotionOptions) -> dict[str, Any]:
    gates = {name: getattr(options, name)._asdict() for name in ("still_gate", "motion_gate")}
    return dataclasses.asdict(options) | gates


def _window_json(window: MotionWindow) -> dict[str, Any]:
    return {
        "window": window.window,
        "first_frame_index": window.first_frame_index,
        "last_frame_index": window.last_frame_index,
        "status": window.status,
        "points": window.points,
        "mean_velocity": round(window.mean_velocity, 6),
        "energy": round(window.energy, 6),
        "codes": list(window.codes),
    }
