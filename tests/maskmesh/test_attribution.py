"""Attribution of time to spans, on traces with a known result."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from maskmesh import telemetry
from maskmesh.trace_report.attribution import UNNAMED, attribute, attribute_frames, unnamed_share
from maskmesh.trace_report.critical_path import critical_path, named_share
from maskmesh.trace_report.report import FIRST_CALL, choose_frame, make_report, stage_rows
from maskmesh.trace_report.trace_files import Span, Trace, group_traces, read_spans


def span(
    name: str, start: int, end: int, *, span_id: str = "", parent: str = "", trace: str = "t",
    **attributes: object,
) -> Span:  # fmt: skip
    named = {f"maskmesh.{k.replace('__', '.')}": v for k, v in attributes.items()}
    return Span(trace, span_id or f"{name}@{start}", parent, name, 1, start, end, "service", "i", "h", named)


def one_trace(*spans: Span) -> Trace:
    (trace,) = group_traces(spans)
    return trace


def test_time_is_attributed_to_the_deepest_span() -> None:
    trace = one_trace(
        span("frame", 0, 100, span_id="root"),
        span("queue device", 10, 60, span_id="q", parent="root"),
        span("memory_encoder", 20, 40, parent="q"),
        span("track", 60, 95, span_id="rpc", parent="root"),
        span("mask_decoder", 70, 90, parent="rpc"),
    )
    found = attribute(trace, 0, 100)
    assert found.by_name == {
        UNNAMED: 10 + 10 + 10,
        "queue device": 30,
        "memory_encoder": 20,
        "mask_decoder": 20,
    }
    assert found.unnamed_share == pytest.approx(0.3)


def test_frame_interval_starts_at_previous_delivery() -> None:
    traces = []
    for index, (start, end) in enumerate([(0, 50), (10, 80), (20, 140)]):
        root = span(
            "frame", start, end, span_id=f"r{index}", trace=f"t{index}",
            frame__index=index, propagation__id="p",
        )  # fmt: skip
        work = span("image_encoder", start, end, parent=f"r{index}", trace=f"t{index}")
        traces.append(one_trace(root, work))
    found = attribute_frames(reversed(traces))
    assert [(f.frame_index, f.start_ns, f.end_ns) for f in found] == [(0, 0, 50), (1, 50, 80), (2, 80, 140)]
    # Overlapping work is not counted twice: the total is 140, not 50 + 70 + 120.
    assert sum(sum(f.by_name.values()) for f in found) == 140
    assert unnamed_share(found) == 0


def test_a_wait_for_a_later_frame_is_attributed_to_that_frame() -> None:
    """Two frames; the first is delivered when the second is decided, and waits for its detector."""
    first = one_trace(
        span("frame", 0, 90, span_id="r0", trace="t0", frame__index=0, propagation__id="p"),
        span("track", 10, 30, span_id="k0", parent="r0", trace="t0"),
        span("mask_decoder", 10, 30, parent="k0", trace="t0"),
        span("queue hotstart", 30, 85, parent="r0", trace="t0"),
        span("queue client", 85, 90, parent="r0", trace="t0"),
    )
    second = one_trace(
        span("frame", 5, 95, span_id="r1", trace="t1", frame__index=1, propagation__id="p"),
        span("track", 40, 80, span_id="k1", parent="r1", trace="t1"),
        span("detector_decoder", 45, 80, parent="k1", trace="t1"),
    )
    found, _ = attribute_frames([second, first])
    assert found.by_name == {
        UNNAMED: 10,
        "mask_decoder": 20,
        "queue hotstart": 15 + 5,  # until the detector began, and from its end to the delivery
        "detector_decoder": 35,
        "queue client": 5,
    }


def test_abandoned_frames_are_not_delivered() -> None:
    trace = one_trace(span("frame", 0, 9, abandoned=True, propagation__id="p"))
    assert attribute_frames([trace]) == []


def test_stage_rows_are_grouped_by_situation() -> None:
    spans = []
    for index, kind in enumerate(["conditioning", "tracked", "tracked"]):
        spans += [
            span("frame", 0, 9, span_id=f"r{index}", trace=f"t{index}", frame__kind=kind),
            span("image_encoder", 0, 1_000_000 * (index + 1), parent=f"r{index}", trace=f"t{index}"),
        ]
    spans += [
        span("warm_up", 0, 9, span_id="w", trace="w"),
        span("image_encoder", 0, 50_000_000, parent="w", trace="w", cold=True),
        span("image_encoder", 60, 20_000_000, parent="w", trace="w", cold=False),
    ]
    rows = {row.situation: row for row in stage_rows(group_traces(spans))}
    assert {when: (row.calls, row.mean_ms) for when, row in rows.items()} == {
        FIRST_CALL: (1, 50),
        telemetry.CONDITIONING: (1, 1),
        telemetry.TRACKED: (2, 2.5),
    }


def test_critical_path_passes_over_siblings_that_touch() -> None:
    trace = one_trace(
        span("frame", 0, 100_000, span_id="root"),
        span("transfer request", 0, 10_000, parent="root"),
        span("track", 12_000, 60_000, span_id="track", parent="root"),
        span("mask_decoder", 12_000, 40_000, parent="track"),
        span("mask_decoder", 42_000, 58_000, parent="track"),
        span("queue client", 60_000, 99_000, parent="root"),  # begins where `track` ends
        span("memory_encoder", 101_000, 130_000, parent="root"),  # after the end of its parent
    )
    assert critical_path(trace) == {"frame": 1 + 50, "queue client": 39, "transfer request": 10}
    spans = [
        replace(s, start_ns=s.start_ns + 2_000 * (s.name == "queue client")) for s in trace.spans.values()
    ]
    apart = one_trace(*spans)
    stages = {"mask_decoder": 16 + 28, "queue client": 37, "transfer request": 10}
    assert critical_path(apart) == {"frame": 1 + 2 + 2, "track": 2 + 2, **stages}
    assert named_share([apart]) == pytest.approx(91 / 100)


def test_truncated_last_line_is_ignored(tmp_path: Path) -> None:
    value = {"name": "queue", "traceId": "a", "spanId": "b", "startTimeUnixNano": "1", "endTimeUnixNano": "5"}
    line = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [value]}]}]})
    (tmp_path / "one.jsonl").write_text(line + "\n" + line[:40])
    assert [s.duration_ns for s in read_spans(tmp_path)] == [4]
    (tmp_path / "two.jsonl").write_text(line[:40] + "\n" + line)
    with pytest.warns(UserWarning, match=r"two\.jsonl: line 1 is no OTLP JSON and passed over"):
        assert len(read_spans(tmp_path)) == 2
    (tmp_path / "one.jsonl").write_text(line[:40] + "\n[]\n")
    with pytest.raises(ValueError, match=r"one\.jsonl: line 1 is no OTLP JSON"):
        read_spans(tmp_path / "one.jsonl")


def test_report_without_frames_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no spans"):
        make_report(tmp_path)
    value = {"name": "queue", "traceId": "a", "spanId": "b", "startTimeUnixNano": "1", "endTimeUnixNano": "5"}
    line = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [value]}]}]})
    (tmp_path / "one.jsonl").write_text(line)
    report = make_report(tmp_path)
    with pytest.raises(ValueError, match="no delivered frame"):
        choose_frame(report, None)
    with pytest.raises(ValueError, match="frame 3"):
        choose_frame(report, 3)
