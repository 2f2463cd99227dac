import asyncio
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from maskmesh import telemetry
from maskmesh.telemetry import StageRecorder
from maskmesh.telemetry.bounded_file import BoundedFile
from maskmesh.telemetry.config import load_telemetry
from maskmesh.telemetry.otel_sdk import CountingExporter, SpanCounter, set_up_tracing, shut_down_tracing


def test_span_file_is_bounded_and_keeps_newest_lines(tmp_path: Path) -> None:
    file = BoundedFile(tmp_path / "spans.jsonl", 1000)
    for number in range(200):
        file.write(f"{number:09}\n")
    file.close()
    assert file.closed
    sizes = {p.name: p.stat().st_size for p in tmp_path.iterdir()}
    assert set(sizes) == {"spans.jsonl", "spans.old.jsonl"}
    assert sum(sizes.values()) <= 1000
    kept = (tmp_path / "spans.old.jsonl").read_text() + (tmp_path / "spans.jsonl").read_text()
    numbers = [int(line) for line in kept.splitlines()]
    assert numbers == list(range(200 - len(numbers), 200))
    assert len(numbers) >= 50


def test_only_the_first_run_of_a_stage_is_cold() -> None:
    seen: set[str] = set()
    cold = []
    for _ in range(2):
        recorder = StageRecorder(seen=seen)
        for name in (telemetry.PREPROCESS, telemetry.IMAGE_ENCODER):
            with recorder.stage(name):
                pass
        cold.append([r.attributes[telemetry.COLD] for r in recorder.records])
    assert cold == [[True, True], [False, False]]


def test_stage_synchronises_device_at_start_and_end() -> None:
    calls: list[str] = []
    recorder = StageRecorder(synchronize=lambda: calls.append("synchronize"))
    with recorder.stage(telemetry.MASK_DECODER):
        calls.append("work")
    assert calls == ["synchronize", "work", "synchronize"]


def test_trace_context_round_trips_through_metadata() -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert telemetry.inject(telemetry.context_of(traceparent)) == {"traceparent": traceparent}
    assert telemetry.inject(telemetry.context_of("")) == {}


def test_a_trace_file_is_begun_on_a_new_line(tmp_path: Path) -> None:
    """A killed process leaves a part of a line."""
    path = tmp_path / "spans.jsonl"
    path.write_text('{"whole": 1}\n{"cut": ')
    file = BoundedFile(path, 1000)
    file.write('{"next": 1}\n')
    file.close()
    assert path.read_text().splitlines() == ['{"whole": 1}', '{"cut": ', '{"next": 1}']


class StuckExporter(SpanExporter):
    """An exporter whose receiver never answers."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        threading.Event().wait(30)
        return SpanExportResult.FAILURE


def test_a_dead_receiver_costs_a_second(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in (("num_ended", 0), ("num_exported", 0), ("has_receiver", True)):
        monkeypatch.setattr(SpanCounter, name, value)
    provider = TracerProvider()
    provider.add_span_processor(SpanCounter())
    provider.add_span_processor(BatchSpanProcessor(CountingExporter(StuckExporter())))
    for _ in range(2000):
        provider.get_tracer("test").start_span("work").end()
    start = time.monotonic()
    shut_down_tracing(provider)
    assert time.monotonic() - start < 10
    assert caplog.messages == ["2000 spans were lost, because the receiver of traces does not take them"]


@pytest.mark.parametrize(
    "settings",
    [
        {"MASKMESH_TRACE_DIR": "/proc/traces"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:1", "OTEL_EXPORTER_OTLP_TIMEOUT": "soon"},
    ],
)
def test_an_exporter_that_cannot_be_made_costs_the_traces_only(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("opentelemetry.trace.set_tracer_provider", lambda provider: None)
    set_up_tracing("service", load_telemetry()).shutdown()
    assert any(message.startswith("traces are not exported: ") for message in caplog.messages)


def test_spans_of_a_loop_that_has_ended_are_emitted_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """An application may run one event loop after the other."""
    emitted: list[str] = []
    module = sys.modules["maskmesh.telemetry.stages"]  # the package has a function of this name
    monkeypatch.setattr(module, "emit", lambda records, parent: emitted.extend(r.name for r in records))

    async def one(name: str, seconds: float) -> None:
        telemetry.emit_soon([telemetry.StageRecord(name, 0, 1)], None)
        await asyncio.sleep(seconds)

    asyncio.run(one("first", 0.0))
    assert emitted == []
    asyncio.run(one("second", 0.1))
    assert emitted == ["first", "second"]
