from pathlib import Path

from maskmesh import telemetry
from maskmesh.telemetry import StageRecorder
from maskmesh.telemetry.bounded_file import BoundedFile


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
