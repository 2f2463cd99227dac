"""The critical path of a trace, as Jaeger's user interface draws it.

The rule is that of jaeger-ui (packages/jaeger-ui/src/components/TracePage/CriticalPath): from the end of a
span walk back to the child that finishes last, descend into it, and go on from its start with the child that
finishes last strictly before.  Times are whole microseconds, and children are cut to their parents.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from maskmesh import telemetry
from maskmesh.trace_report.trace_files import Trace


def critical_path(trace: Trace) -> Counter[str]:
    """Microseconds of the critical path by the name of the span that they lie on."""
    times = {i: (s.start_ns // 1000, s.end_ns // 1000) for i, s in trace.spans.items()}
    children: Mapping[str, list[str]] = defaultdict(list)
    for span_id, span in trace.spans.items():
        if span.parent_id in trace.spans:
            children[span.parent_id].append(span_id)
    root = trace.root.span_id
    _cut_to_parent(root, times, children)
    path: Counter[str] = Counter()

    def walk(span_id: str) -> None:
        start, until = times[span_id]
        candidates: Sequence[str] = [c for c in children[span_id] if times[c][1] <= until]
        while candidates:
            last = max(candidates, key=lambda c: times[c][1])
            path[trace.spans[span_id].name] += until - times[last][1]
            walk(last)
            until = times[last][0]
            candidates = [c for c in children[span_id] if times[c][1] < until]
        path[trace.spans[span_id].name] += until - start

    walk(root)
    return path


def _cut_to_parent(root: str, times: dict[str, tuple[int, int]], children: Mapping[str, list[str]]) -> None:
    """Cut spans to their parents, and remove those that lie outside of their parents."""
    stack = [root]
    while stack:
        parent = stack.pop()
        start, end = times[parent]
        children[parent][:] = [c for c in children[parent] if times[c][0] < end and times[c][1] > start]
        for child in children[parent]:
            times[child] = max(times[child][0], start), min(times[child][1], end)
        stack += children[parent]


def named_share(traces: Iterable[Trace]) -> float:
    """The share of the critical paths that lies on stages, waits and transfers, 0 to 1; 0 without traces."""
    total: Counter[str] = Counter()
    for trace in traces:
        total += critical_path(trace)
    named = sum(micros for name, micros in total.items() if telemetry.is_named(name))
    return named / max(sum(total.values()), 1)
