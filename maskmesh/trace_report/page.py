"""The report as one page that needs no network: charts, table, and the waterfall of any frame."""

import html
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from maskmesh import telemetry
from maskmesh.trace_report.attribution import Attribution
from maskmesh.trace_report.colours import COLOURS
from maskmesh.trace_report.run_data import RunData
from maskmesh.version import __version__

# Frames whose waterfall the page has: the slowest, the first, and others at equal distances.
MAX_WATERFALLS = 400
NUM_SLOWEST = 60
NUM_FIRST = 20

# Points of the charts over time.
MAX_POINTS = 2000


def write_page(run: RunData, path: Path, *, title: str) -> None:
    """Write the page.  Raises OSError."""
    template = (files("maskmesh.trace_report") / "page.html").read_text(encoding="utf-8")
    # "</" would end the script element; other characters are those of JSON.
    data = json.dumps(page_data(run), separators=(",", ":")).replace("</", "<\\/")
    text = template.replace("{{title}}", html.escape(title)).replace("{{version}}", __version__)
    path.write_text(text.replace("{{data}}", data), encoding="utf-8")


def page_data(run: RunData) -> dict[str, Any]:
    """What the page shows, for JSON."""
    step = max(1, -(-len(run.frames) // MAX_POINTS))
    return {
        "summary": run.summary,
        "report": run.report.to_json() if run.report is not None else None,
        "budget_ms": None if run.budget_s is None else run.budget_s * 1000,
        "frames": [
            {
                "number": frame.number,
                "time_s": round(frame.time_s, 4),
                "total_ms": round(frame.total_s * 1000, 3),
                "shares_ms": {name: round(s * 1000, 3) for name, s in frame.shares.items()},
            }
            for frame in run.frames[::step]
        ],
        "totals_ms": [round(frame.total_s * 1000, 3) for frame in run.frames],
        "usage": [
            {
                "service": used.service,
                "time_s": list(used.time_s),
                "resident_mib": [round(size / 2**20, 1) for size in used.resident_bytes],
                "device_mib": [round(size / 2**20, 1) for size in used.device_bytes],
                "cores": list(used.cores),
            }
            for used in run.usage
        ],
        "waterfalls": [_waterfall(frame) for frame in _chosen(run)],
        "colours": COLOURS,
    }


def _chosen(run: RunData) -> list[Attribution]:
    """The frames and calls whose waterfalls the page has, in order."""
    if run.report is None:
        return []
    found: Sequence[Attribution] = [*run.report.calls, *run.report.frames]
    if len(found) <= MAX_WATERFALLS:
        return sorted(found, key=lambda frame: frame.start_ns)
    slowest = sorted(found, key=lambda frame: -frame.duration_ns)[:NUM_SLOWEST]
    step = -(-len(found) // (MAX_WATERFALLS - NUM_SLOWEST - NUM_FIRST))
    chosen = {id(frame): frame for frame in (*slowest, *found[:NUM_FIRST], *found[::step])}
    return sorted(chosen.values(), key=lambda frame: frame.start_ns)


def _waterfall(frame: Attribution) -> dict[str, Any]:
    trace = frame.trace
    origin = min(span.start_ns for span in trace.spans.values())
    spans = sorted(trace.spans.values(), key=lambda span: (span.start_ns, trace.depths[span.span_id]))
    is_frame = trace.root.name == telemetry.FRAME
    kind = trace.root.attributes.get(telemetry.FRAME_KIND, "")
    label = f"frame {frame.frame_index} ({kind})" if is_frame else trace.root.name.rsplit("/", 1)[-1]
    return {
        "label": label,
        "trace_id": trace.trace_id,
        "ms": round(frame.duration_ns / 1e6, 3),
        "from_ms": round((frame.start_ns - origin) / 1e6, 3),
        "spans": [
            [
                span.service.removeprefix("maskmesh-"),
                span.name.rsplit("/", 1)[-1],
                trace.depths[span.span_id],
                round((span.start_ns - origin) / 1e6, 3),
                round(span.duration_ns / 1e6, 3),
            ]
            for span in spans
        ],
    }
