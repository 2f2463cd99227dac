"""The waterfall diagram of one frame's spans."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from maskmesh import telemetry
from maskmesh.trace_report.attribution import Attribution
from maskmesh.trace_report.colours import COLOURS, colour_of
from maskmesh.trace_report.trace_files import Span


def draw_waterfall(frame: Attribution, path: Path) -> None:
    """Write a PNG with one bar for each span, with names indented by depth.

    The shaded part is the interval of the frame: from the previous delivery to its own.
    """
    trace = frame.trace
    spans = _in_order(frame)
    origin = min(s.start_ns for s in spans)
    figure = Figure(figsize=(12, 1.6 + 0.24 * len(spans)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.axvspan((frame.start_ns - origin) / 1e6, (frame.end_ns - origin) / 1e6, color="#fff6d6", zorder=0)
    longest = max(s.end_ns for s in spans) - origin
    for row, span in enumerate(spans):
        start, width = (span.start_ns - origin) / 1e6, max(span.duration_ns, longest * 0.001) / 1e6
        named = telemetry.is_named(span.name)
        axes.barh(
            row, width, left=start, height=0.72 if named else 0.5,
            color=colour_of(span.name),
            edgecolor="#555555", linewidth=0.4, zorder=2,
        )  # fmt: skip
        label = f"{span.duration_ns / 1e6:.2f} ms"
        axes.text(start + width, row, f" {label}", va="center", fontsize=7, zorder=3)
    axes.set_yticks(
        range(len(spans)),
        [f"{_service(s)}  {'   ' * trace.depths[s.span_id]}{_label(s)}" for s in spans],
        fontsize=7.5,
        ha="left",
    )
    axes.tick_params(axis="y", pad=185, length=0)
    axes.invert_yaxis()
    axes.set_xlim(0, longest / 1e6 * 1.08)
    axes.set_xlabel("milliseconds")
    axes.grid(axis="x", color="#dddddd", linewidth=0.6, zorder=1)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.set_title(
        f"{_heading(frame)}, {frame.unnamed_share:.1%} unnamed\ntrace {trace.trace_id}",
        fontsize=8.5,
        loc="left",
        x=-0.2,
    )
    used = [n for n in COLOURS if any(telemetry.base_name(s.name) == n for s in spans)]
    figure.legend(
        handles=[Patch(color=COLOURS[n], label=n) for n in used],
        fontsize=7, ncols=6, loc="outside lower center", frameon=False,
    )  # fmt: skip
    figure.savefig(path)


def _heading(frame: Attribution) -> str:
    root, milliseconds = frame.trace.root, frame.duration_ns / 1e6
    if root.name != telemetry.FRAME:
        return f"{_label(root)}: {milliseconds:.1f} ms"
    kind = root.attributes.get(telemetry.FRAME_KIND)
    return f"frame {frame.frame_index} ({kind}): delivered {milliseconds:.1f} ms after the previous one"


def _in_order(frame: Attribution) -> list[Span]:
    """Spans depth first, siblings by their start; transfers and queues below 20 µs are left out."""
    trace = frame.trace
    children: dict[str, list[Span]] = {}
    for span in trace.spans.values():
        children.setdefault(span.parent_id, []).append(span)
    ordered: list[Span] = []
    stack = [trace.root]
    while stack:
        span = stack.pop()
        waits = telemetry.base_name(span.name) in (telemetry.QUEUE, telemetry.TRANSFER)
        if not (waits and span.duration_ns < 20_000):
            ordered.append(span)
        stack += sorted(children.get(span.span_id, ()), key=lambda s: -s.start_ns)
    return ordered


def _service(span: Span) -> str:
    return f"{span.service.removeprefix('maskmesh-'):8}"


def _label(span: Span) -> str:
    return span.name.rsplit("/", 1)[-1]
