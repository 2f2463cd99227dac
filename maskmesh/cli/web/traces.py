"""Traces of the last frames, from the local trace files of a mesh that runs on this machine."""

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

from maskmesh.telemetry.bounded_file import OLD_SUFFIX
from maskmesh.trace_report.trace_files import Span, group_traces, spans_of_line

MAX_TRACES = 2000


class _Position(NamedTuple):
    """How far a file was read."""

    inode: int
    offset: int


class LocalTraces:
    """Reads what services append to their trace files from now on; keeps the newest traces.  Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._positions = {
            path: _Position(path.stat().st_ino, path.stat().st_size) for path in folder.glob("*.jsonl")
        }
        self._lock = threading.Lock()
        self._traces: OrderedDict[str, list[Span]] = OrderedDict()

    def find(self, trace_id: str) -> list[dict[str, Any]]:
        """The spans of a trace by their start, in milliseconds since its start, as far as they are there.

        Raises OSError if a file cannot be read.
        """
        with self._lock:
            self._read_on()
            spans = list(self._traces.get(trace_id, ()))
        if not spans:
            return []
        [trace] = group_traces(spans)
        origin = min(span.start_ns for span in spans)
        ordered = sorted(spans, key=lambda span: (span.start_ns, trace.depths[span.span_id]))
        return [
            {
                "service": span.service.removeprefix("maskmesh-"),
                "name": span.name.rsplit("/", 1)[-1],
                "depth": trace.depths[span.span_id],
                "start_ms": (span.start_ns - origin) / 1e6,
                "ms": span.duration_ns / 1e6,
            }
            for span in ordered
        ]

    def _read_on(self) -> None:
        for path in sorted(self._folder.glob("*.jsonl")):
            if path.name.endswith(OLD_SUFFIX):
                continue  # it was read under its first name
            position = self._positions.get(path, _Position(path.stat().st_ino, 0))
            if path.stat().st_ino != position.inode:  # it was renamed, to bound its size, and begun anew
                old = path.with_suffix(OLD_SUFFIX)
                if old.exists() and old.stat().st_ino == position.inode:
                    self._read(old, position.offset)
                position = _Position(path.stat().st_ino, 0)
            self._positions[path] = _Position(position.inode, self._read(path, position.offset))

    def _read(self, path: Path, offset: int) -> int:
        """Add the spans of the whole lines from an offset on; returns the offset of the first other line."""
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
        whole, _, _ = data.rpartition(b"\n")
        for line in whole.split(b"\n"):
            for span in spans_of_line(line.decode("utf-8", "replace")):
                self._traces.setdefault(span.trace_id, []).append(span)
            while len(self._traces) > MAX_TRACES:
                self._traces.popitem(last=False)
        return offset + len(whole) + (1 if whole else 0)
