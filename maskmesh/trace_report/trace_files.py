"""Spans read back from the local trace files (OTLP JSON lines)."""

import json
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# The start of every line.
_START = '{"resourceSpans"'

KIND_SERVER = 2
KIND_CLIENT = 3


@dataclass(frozen=True, slots=True)
class Span:
    """One span; times are wall clock, in nanoseconds since the epoch."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: int
    start_ns: int
    end_ns: int
    service: str
    instance: str
    host: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    links: Sequence[str] = ()
    """Ids of the spans that it is linked to."""
    events: Sequence[tuple[str, Mapping[str, Any]]] = ()
    """Names and attributes of what happened, in order."""

    @property
    def duration_ns(self) -> int:
        """Duration of the span."""
        return self.end_ns - self.start_ns


@dataclass(frozen=True, slots=True)
class Trace:
    """The spans of one trace, by id, and the depth of each below its root."""

    trace_id: str
    spans: Mapping[str, Span]
    depths: Mapping[str, int]

    @property
    def root(self) -> Span:
        """The span whose parent is not in the trace; the longest one if there are several."""
        roots = [s for s in self.spans.values() if s.parent_id not in self.spans]
        return max(roots, key=lambda s: s.duration_ns)


def read_spans(path: Path) -> list[Span]:
    """Read a file, or all ``.jsonl`` files of a folder.

    Lines that are no OTLP JSON, as a killed process or a full disk leaves them, are passed over; a warning
    counts them.  Raises OSError if a file cannot be read, and ValueError if it has no other lines.
    """
    spans: list[Span] = []
    for file in trace_files(path):
        lines = file.read_text(encoding="utf-8", errors="replace").split("\n")
        invalid = []
        for number, line in enumerate(lines, start=1):
            # A line that was cut has the next one glued to it.
            whole = line[max(line.rfind(_START), 0) :]
            if whole != line:
                invalid.append(number)
            try:
                spans += _spans_of(json.loads(whole)) if whole.strip("\0 \r") else []
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                invalid.append(number)
        invalid = sorted(set(invalid))
        is_cut = invalid == [len(lines)]  # the last line of a file that is still written
        if invalid and not is_cut:
            if not spans:
                raise ValueError(f"{file}: line {invalid[0]} is no OTLP JSON")
            warnings.warn(f"{file}: {_lines(invalid)} no OTLP JSON and passed over", stacklevel=2)
    return spans


def spans_of_line(line: str) -> list[Span]:
    """The spans of one line; none if it is no OTLP JSON."""
    try:
        return _spans_of(json.loads(line)) if line.strip("\0 \r") else []
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []


def _lines(numbers: Sequence[int]) -> str:
    if len(numbers) == 1:
        return f"line {numbers[0]} is"
    return f"{len(numbers)} lines (the first is {numbers[0]}) are"


def trace_files(path: Path) -> list[Path]:
    """The trace files of a folder, or the one file."""
    return sorted(path.glob("*.jsonl")) if path.is_dir() else [path]


def group_traces(spans: Iterable[Span]) -> list[Trace]:
    """Group spans into traces, in the order of their start."""
    by_trace: dict[str, dict[str, Span]] = defaultdict(dict)
    for span in spans:
        by_trace[span.trace_id][span.span_id] = span
    traces = [_make_trace(trace_id, found) for trace_id, found in by_trace.items()]
    return sorted(traces, key=lambda t: t.root.start_ns)


def _make_trace(trace_id: str, spans: dict[str, Span]) -> Trace:
    children: dict[str, list[str]] = defaultdict(list)
    for span in spans.values():
        children[span.parent_id if span.parent_id in spans else ""].append(span.span_id)
    depths: dict[str, int] = {}
    stack = [(span_id, 0) for span_id in children[""]]
    while stack:
        span_id, depth = stack.pop()
        depths[span_id] = depth
        stack += [(child, depth + 1) for child in children[span_id]]
    return Trace(trace_id, spans, depths)


def _spans_of(content: Mapping[str, Any]) -> list[Span]:
    spans = []
    for resource_spans in content.get("resourceSpans", ()):
        resource = _attributes(resource_spans.get("resource", {}).get("attributes", ()))
        for scope_spans in resource_spans.get("scopeSpans", ()):
            for span in scope_spans.get("spans", ()):
                spans.append(
                    Span(
                        trace_id=span["traceId"],
                        span_id=span["spanId"],
                        parent_id=span.get("parentSpanId", ""),
                        name=span["name"],
                        kind=int(span.get("kind", 0)),
                        start_ns=int(span["startTimeUnixNano"]),
                        end_ns=int(span["endTimeUnixNano"]),
                        service=str(resource.get("service.name", "")),
                        instance=str(resource.get("service.instance.id", "")),
                        host=str(resource.get("host.name", "")),
                        attributes=_attributes(span.get("attributes", ())),
                        events=[
                            (event["name"], _attributes(event.get("attributes", ())))
                            for event in span.get("events", ())
                        ],
                        links=[link["spanId"] for link in span.get("links", ())],
                    )
                )
    return spans


def _attributes(pairs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for pair in pairs:
        (kind, value), *_ = pair["value"].items()
        values[pair["key"]] = int(value) if kind == "intValue" else value
    return values
