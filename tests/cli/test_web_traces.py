"""Traces of the page: spans that services append to their files."""

import json
from pathlib import Path

import pytest

from maskmesh.cli.web import traces
from maskmesh.cli.web.traces import LocalTraces
from maskmesh.telemetry.bounded_file import BoundedFile


def line(trace: str, span: str) -> str:
    value = {
        "name": "queue",
        "traceId": trace,
        "spanId": span,
        "startTimeUnixNano": "1",
        "endTimeUnixNano": "5",
    }
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [value]}]}]}) + "\n"


def test_a_bounded_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it was renamed, to bound its size, between two requests."""
    monkeypatch.setattr(traces, "MAX_TRACES", 6)
    size = len(line("t000", "second"))
    file = BoundedFile(tmp_path / "encoder.jsonl", 2 * 4 * size + 8)
    found = LocalTraces(tmp_path)
    for number in range(30):
        name = f"t{number:03}"
        file.write(line(name, "first"))
        file.write(line(name, "second"))
        file.flush()
        if number % 3:  # not after every line
            assert len(found.find(name)) == 2, name
        if number >= 5 and number % 3 == 2:
            assert len(found.find(f"t{number - 4:03}")) == 2, "the newest traces are kept"
    file.close()
    assert (tmp_path / "encoder.old.jsonl").exists()
