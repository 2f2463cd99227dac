"""To whom each instant of a frame's delivery belongs.

For each delivered frame take the interval between its delivery and the one before it (for a unary call, the
call).  Every instant of it belongs to the deepest named span of the frame's own trace that was open then;
what none covers is unnamed.  Work done ahead for later frames lies outside of a frame's interval and is
not summed.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from maskmesh import telemetry
from maskmesh.trace_report.trace_files import Span, Trace

UNNAMED = "unnamed"


@dataclass(frozen=True, slots=True)
class Attribution:
    """One interval and its owners, in nanoseconds; ``by_name`` sums up to the interval."""

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
        """What no named span covers, 0 to 1."""
        return self.by_name.get(UNNAMED, 0) / max(self.duration_ns, 1)

    @property
    def frame_index(self) -> int:
        """The frame, -1 for a unary call."""
        return int(self.trace.root.attributes.get(telemetry.FRAME_INDEX, -1))


def attribute(trace: Trace, start_ns: int, end_ns: int) -> Attribution:
    """Divide one interval among the spans of a trace."""
    named = [
        (trace.depths[span_id], span)
        for span_id, span in trace.spans.items()
        if span.name in telemetry.NAMED and span.end_ns > start_ns and span.start_ns < end_ns
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
    """The deepest span over a stretch; among equals, the one that began last."""
    open_spans = [
        (depth, span.start_ns, span.name)
        for depth, span in named
        if span.start_ns <= begin and span.end_ns >= end
    ]
    return max(open_spans)[2] if open_spans else UNNAMED


def attribute_frames(traces: Iterable[Trace]) -> list[Attribution]:
    """Every delivered frame of every propagation, in order of delivery."""
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
            attributions.append(attribute(trace, start, delivered))
    return attributions


def attribute_calls(traces: Iterable[Trace], methods: Sequence[str]) -> list[Attribution]:
    """Every unary call of the given methods, for example ``AddPrompt``."""
    return [
        attribute(t, t.root.start_ns, t.root.end_ns)
        for t in traces
        if t.root.name.rsplit("/", 1)[-1] in methods
    ]


def unnamed_share(attributions: Sequence[Attribution]) -> float:
    """The unnamed time of all intervals together, 0 to 1."""
    total = sum(a.duration_ns for a in attributions)
    return sum(a.by_name.get(UNNAMED, 0) for a in attributions) / max(total, 1)
