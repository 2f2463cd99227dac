"""Attribution of time to spans, on traces with a known result."""

import json
from pathlib import Path

import pytest

from maskmesh import telemetry
from maskmesh.telemetry import transfer_stages
from maskmesh.trace_report.attribution import UNNAMED, attribute, attribute_frames, unnamed_share
from maskmesh.trace_report.report import FIRST_CALL, choose_frame, make_report, stage_rows
from maskmesh.trace_report.trace_files import KIND_CLIENT, KIND_SERVER, Span, Trace, group_traces, read_spans


def span(
    name: str, start: int, end: int, *, span_id: str = "", parent: str = "", trace: str = "t",
    kind: int = 1, host: str = "h", **attributes: object,
) -> Span:  # fmt: skip
    named = {f"maskmesh.{k.replace('__', '.')}": v for k, v in attributes.items()}
    return Span(
        trace, span_id or f"{name}@{start}", parent, name, kind, start, end, "service", "i", host, named
    )


def one_trace(*spans: Span) -> Trace:
    (trace,) = group_traces(spans)
    return trace


def test_time_is_attributed_to_the_deepest_span() -> None:
    trace = one_trace(
        span("frame", 0, 100, span_id="root"),
        span("queue", 10, 60, span_id="q", parent="root"),
        span("memory_encoder", 20, 40, parent="q"),
        span("track", 60, 95, span_id="rpc", parent="root"),
        span("mask_decoder", 70, 90, parent="rpc"),
    )
    found = attribute(trace, 0, 100)
    assert found.by_name == {UNNAMED: 10 + 10 + 10, "queue": 30, "memory_encoder": 20, "mask_decoder": 20}
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


def test_abandoned_frames_are_not_delivered() -> None:
    trace = one_trace(span("frame", 0, 9, abandoned=True, propagation__id="p"))
    assert attribute_frames([trace]) == []


def test_clocks_of_two_hosts_are_aligned() -> None:
    trace = one_trace(
        span("frame", 0, 100, span_id="root"),
        span("track", 10, 60, span_id="c", parent="root", kind=KIND_CLIENT),
        span("track", 1_000_000, 1_000_030, span_id="s", parent="c", kind=KIND_SERVER, host="other"),
        span("mask_decoder", 1_000_005, 1_000_025, span_id="m", parent="s", host="other"),
        span("transfer", 10, 18, span_id="out", parent="c", direction="request"),
        span("transfer", 58, 60, span_id="back", parent="c", direction="response"),
    )
    assert (trace.spans["s"].start_ns, trace.spans["s"].end_ns) == (20, 50)
    assert (trace.spans["m"].start_ns, trace.spans["m"].end_ns) == (25, 45)
    assert (trace.spans["out"].start_ns, trace.spans["out"].end_ns) == (10, 20)
    assert (trace.spans["back"].start_ns, trace.spans["back"].end_ns) == (50, 60)


def test_transfer_is_time_between_sender_and_handler() -> None:
    request, response = transfer_stages((100, 200), (110, 185))
    assert (request.start_ns, request.end_ns) == (100, 110)
    assert (response.start_ns, response.end_ns) == (185, 200)
    # If the clocks disagree, the handler is centred in the call.
    request, response = transfer_stages((100, 200), (9_000, 9_060))
    assert (request.end_ns, response.start_ns) == (120, 180)


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
