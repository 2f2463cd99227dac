"""Windows of results: which results they contain, their time, and the statistics over them."""

import json

import pytest

from maskmesh.records.budget import Budget, WindowRecord
from maskmesh.records.summary import RunStatistics
from maskmesh.records.window_timer import WindowTimer


def windows(budget: Budget, results: list[tuple[float, float]]) -> list[WindowRecord]:
    """The windows of results, given by the times at which a frame was received and its result was sent."""
    timer = WindowTimer(budget)
    added = [timer.add(n, *times, {"image_encoder": 0.01}) for n, times in enumerate(results)]
    return [record for record in added if record is not None]


def every(interval: float, count: int, work: float) -> list[tuple[float, float]]:
    return [(n * interval, n * interval + work) for n in range(count)]


def test_a_frame_is_a_window_by_default() -> None:
    records = windows(Budget(frames_per_second=10), every(0.1, 3, 0.04))
    assert [r.window for r in records] == [0, 1, 2]
    assert [r.total for r in records] == pytest.approx([0.04] * 3)
    assert [r.slack for r in records] == pytest.approx([0.06] * 3)
    assert {r.status for r in records} == {"OK"}


def test_time_before_the_previous_result_does_not_count_again() -> None:
    # Three frames come at once; each takes 0.1 s.
    records = windows(Budget(per_window=0.15), [(0.0, 0.1), (0.0, 0.2), (0.0, 0.3)])
    assert [r.total for r in records] == pytest.approx([0.1] * 3)
    assert [r.latency for r in records] == pytest.approx([0.1, 0.2, 0.3])
    assert {r.status for r in records} == {"OK"}


def test_overlapping_windows_count_their_new_frames() -> None:
    records = windows(Budget(frames_per_second=10, window_length=15, window_stride=4), every(0.1, 27, 0.05))
    assert [(r.first_sequence, r.last_sequence, r.new_frames) for r in records] == [
        (0, 14, 15),
        (4, 18, 4),
        (8, 22, 4),
        (12, 26, 4),
    ]
    assert [r.budget for r in records] == pytest.approx([1.5, 0.4, 0.4, 0.4])
    assert records[1].total == pytest.approx(0.2)
    assert records[1].stage_seconds["image_encoder"] == pytest.approx(0.04)


def test_frames_between_windows_do_not_count() -> None:
    records = windows(Budget(per_window=1, window_length=2, window_stride=5), every(1, 12, 0.5))
    assert [(r.first_sequence, r.last_sequence) for r in records] == [(0, 1), (5, 6), (10, 11)]
    assert [r.total for r in records] == pytest.approx([1.0] * 3)


def test_without_a_budget_windows_have_no_status() -> None:
    [record] = windows(Budget(), [(0.0, 0.1)])
    assert (record.budget, record.slack, record.status) == (None, None, None)
    assert "status" not in record.to_json()


def test_a_line_of_the_records() -> None:
    [record] = windows(Budget(frames_per_second=20), [(1.0, 1.125)])
    assert json.loads(json.dumps(record.to_json())) == {
        "win": 0,
        "time_s": 0.125,
        "first_frame": 0,
        "last_frame": 0,
        "new_frames": 1,
        "t_image_encoder_s": 0.01,
        "t_total_s": 0.125,
        "budget_s": 0.05,
        "slack_s": -0.075,
        "status": "LAG",
        "latency_s": 0.125,
    }


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"frames_per_second": -1.0}, "frames_per_second"),
        ({"frames_per_second": float("nan")}, "frames_per_second"),
        ({"per_window": 0.0}, "per_window"),
        ({"window_length": 0}, "window_length"),
        ({"window_stride": 5000}, "window_stride"),
    ],
)
def test_values_out_of_range(values: dict[str, float], field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field} must be"):
        Budget(**values)  # type: ignore[arg-type]


def test_the_summary_tells_the_first_window_apart() -> None:
    statistics = RunStatistics()
    results = [(0.0, 2.0), (2.0, 2.1), (3.0, 3.2), (4.0, 4.3)]
    for record, times in zip(windows(Budget(per_window=0.25), results), results, strict=True):
        statistics.add_result(*times)
        statistics.add_window(record)
    summary = statistics.summary()
    assert summary.first is not None
    assert summary.first.total == 2.0
    total = summary.times["total"]
    assert (total.mean, total.p50, total.max) == pytest.approx((0.2, 0.2, 0.3))
    assert summary.ok_ratio == 0.5
    assert summary.seconds == pytest.approx(4.3)
    assert summary.frames_per_second == pytest.approx(4 / 4.3)
    assert summary.times["model"].mean == pytest.approx(0.01)


def test_an_empty_run_has_a_summary() -> None:
    summary = RunStatistics().summary()
    assert summary.to_json()["windows"] == 0
    assert summary.ok_ratio is None
