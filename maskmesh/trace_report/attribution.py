"""Attribution of the latency of each delivered frame to named spans.

The interval of a frame lasts from the previous delivery to its own; that of a unary call is the call.  Each
instant of an interval is attributed to the deepest named span of the frame's own trace that was open then,
or to ``UNNAMED`` if there was none.  Read-ahead precedes the interval of its frame and is not counted.  A
frame whose result waits for that of a later frame (``queue hotstart``) is delivered when that one is, so its
wait is attributed to the spans of the later frame.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from maskmesh import telemetry
from maskmesh.trace_report.trace_files import Span, Trace

UNNAMED = "unnamed"

_HOTSTART = f"{telemetry.QUEUE} {telemetry.HOTSTART}"


@dataclass(frozen=True, slots=True)
class Attribution:
    """One interval and its attribution; ``by_name`` has nanoseconds, which sum up to the interval."""

    trace: Trace
    start_ns: int
    end_ns: int
    by_name: Mapping[str, int]

    @property
    def duration_ns(self) -> int:
        """The length of the interval."""
        return self.end_ns - self.start_ns

    @property
    def unnamed_share(self) -> float:
        """The share of the interval that no named span covers, 0 to 1."""
        return self.by_name.get(UNNAMED, 0) / max(self.duration_ns, 1)

    @property
    def frame_index(self) -> int:
        """The index of the frame, -1 for a unary call."""
        return int(self.trace.root.attributes.get(telemetry.FRAME_INDEX, -1))


def attribute(trace: Trace, start_ns: int, end_ns: int, *, awaited: Trace | None = None) -> Attribution:
    """Attribute one interval to the spans of a trace, and its wait for the ``awaited`` one to that one's."""
    named = [
        (-1 if span.name == _HOTSTART else each.depths[span_id], span)
        for each in (trace, awaited)
        if each is not None
        for span_id, span in each.spans.items()
        if telemetry.is_named(span.name) and span.end_ns > start_ns and span.start_ns < end_ns
    ]
    edges = {start_ns, end_ns}
    for _, span in named:
        edges |= {max(span.start_ns, start_ns), min(span.end_ns, end_ns)}
    ordered = sorted(edges)
    by_name: dict[str, int] = defaultdict(int)
    for begin, end in pairwise(ordered):
        by_name[_owner(named, begin, end)] += end - begin
    return Attribution(trace, start_ns, end_ns, dict(by_name))


def _owner(named: Sequence[tuple[int, Span]], begin: int, end: int) -> str:
    """The name of the deepest span that covers an interval; of equally deep ones, that which began last."""
    open_spans = [
        (depth, span.start_ns, span.name)
        for depth, span in named
        if span.start_ns <= begin and span.end_ns >= end
    ]
    return max(open_spans)[2] if open_spans else UNNAMED


def attribute_frames(traces: Iterable[Trace]) -> list[Attribution]:
    """Attribute the delivered frames of each propagation, in order of delivery."""
    propagations: dict[str, list[Trace]] = defaultdict(list)
    for trace in traces:
        root = trace.root
        if root.name == telemetry.FRAME and not root.attributes.get(telemetry.ABANDONED):
            propagations[str(root.attributes.get(telemetry.PROPAGATION_ID))].append(trace)
    attributions = []
    for frames in propagations.values():
        delivered: int | None = None
        for trace in sorted(frames, key=lambda t: t.root.end_ns):
            start = trace.root.start_ns if delivered is None else delivered
            delivered = trace.root.end_ns
            attributions.append(attribute(trace, start, delivered, awaited=_awaited(trace, frames)))
    return attributions


def _awaited(trace: Trace, frames: Sequence[Trace]) -> Trace | None:
    """The frame whose result a frame waited for: the last one that was tracked when the wait ended."""
    waits = [span.end_ns for span in trace.spans.values() if span.name == _HOTSTART]
    if not waits:
        return None
    tracked = [
        (span.end_ns, number)
        for number, other in enumerate(frames)
        for span in other.spans.values()
        if span.name == telemetry.TRACK and span.parent_id == other.root.span_id and span.end_ns <= waits[0]
    ]
    return frames[max(tracked)[1]] if tracked else None


def attribute_calls(traces: Iterable[Trace], methods: Sequence[str]) -> list[Attribution]:
    """Attribute the unary calls of the given methods, for example ``AddPrompt``."""
    return [
        attribute(t, t.root.start_ns, t.root.end_ns)
        for t in traces
        if t.root.name.rsplit("/", 1)[-1] in methods
    ]


def unnamed_share(attributions: Sequence[Attribution]) -> float:
    """The unnamed time of all intervals together, 0 to 1."""
    total = sum(a.duration_ns for a in attributions)
    return sum(a.by_name.get(UNNAMED, 0) for a in attributions) / max(total, 1)
