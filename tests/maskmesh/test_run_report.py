"""Reports of recorded runs: what is read from records and from traces, the charts and the page."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from maskmesh.cli.main import main
from maskmesh.trace_report.page import page_data
from maskmesh.trace_report.run_data import read_run


def write_lines(path: Path, lines: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """The records of a run of five windows, without traces."""
    folder = tmp_path / "run"
    folder.mkdir()
    window = {"t_image_encoder_s": 0.03, "t_memory_attention_s": 0.02, "budget_s": 0.05, "status": "OK"}
    write_lines(
        folder / "windows.jsonl",
        [window | {"win": n, "time_s": 1.0 * n, "t_total_s": 0.04 + 0.01 * n} for n in range(5)],
    )
    used = [{"tracker 1:2": {"resident_bytes": 2**20 * (100 + n), "cpu_s": 0.5 * n}} for n in range(3)]
    write_lines(folder / "usage.jsonl", [{"time_s": float(n), "services": u} for n, u in enumerate(used)])
    (folder / "summary.json").write_text(json.dumps({"command": "stream", "ok_ratio": 0.4}))
    return folder


def test_records_alone_are_reported(recorded: Path) -> None:
    run = read_run(recorded)
    assert run.report is None
    assert [frame.total_s for frame in run.frames] == pytest.approx([0.04, 0.05, 0.06, 0.07, 0.08])
    # Stages of the first window take longer than the window, because they overlap.
    assert sum(run.frames[0].shares.values()) == pytest.approx(0.04)
    assert run.frames[0].shares["image_encoder"] == pytest.approx(0.024)
    assert [frame.time_s for frame in run.frames] == [0, 1, 2, 3, 4]
    assert run.budget_s == 0.05
    [usage] = run.usage
    assert usage.service == "tracker 1:2"
    assert list(usage.cores) == pytest.approx([0, 0.5, 0.5])


def test_a_cut_line_at_the_end_is_left_out(recorded: Path) -> None:
    windows = recorded / "windows.jsonl"
    windows.write_text(windows.read_text() + '{"win": 5, "t_to')
    assert len(read_run(recorded).frames) == 5
    windows.write_text("nonsense\n" + windows.read_text())
    with pytest.raises(ValueError, match="line 1 is no JSON"):
        read_run(recorded)


def test_a_window_without_times_is_named(recorded: Path) -> None:
    write_lines(recorded / "windows.jsonl", [{"win": 0, "time_s": 1.0}])
    with pytest.raises(ValueError, match="window 0 has no times"):
        read_run(recorded)


def test_records_are_not_written_over_themselves(recorded: Path) -> None:
    before = {path.name: path.read_bytes() for path in recorded.iterdir()}
    result = CliRunner().invoke(main, ["report", str(recorded), "--records", str(recorded), "--fps", "15"])
    assert result.exit_code == 2
    assert "would overwrite the records" in result.output
    assert {path.name: path.read_bytes() for path in recorded.iterdir()} == before


def test_a_folder_without_anything_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there are no spans"):
        read_run(tmp_path)


def test_charts_and_page_of_records(recorded: Path, tmp_path: Path) -> None:
    charts, page = tmp_path / "charts.png", tmp_path / "page.html"
    result = CliRunner().invoke(
        main, ["report", str(recorded), "--charts", str(charts), "--html", str(page)], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    with Image.open(charts) as picture:
        assert picture.width > 1000
    text = page.read_text()
    assert not re.search(r"(src|href)=", text), "the page loads nothing"
    [found] = re.findall(r'<script id="data" type="application/json">(.*)</script>', text)
    data = json.loads(found)
    assert data["summary"]["command"] == "stream"
    assert len(data["frames"]) == 5
    assert data["usage"][0]["resident_mib"] == [100, 101, 102]


def test_charts_of_results_without_stages(recorded: Path, tmp_path: Path) -> None:
    """Calls on images are recorded without the times of their stages."""
    windows = [{"win": n, "time_s": 1.0 * n, "t_total_s": 0.05, "status": "OK"} for n in range(3)]
    write_lines(recorded / "windows.jsonl", windows)
    charts = tmp_path / "charts.png"
    result = CliRunner().invoke(
        main, ["report", str(recorded), "--charts", str(charts)], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    assert charts.stat().st_size > 10_000


def test_data_cannot_end_the_script(recorded: Path, tmp_path: Path) -> None:
    (recorded / "summary.json").write_text(json.dumps({"command": "</script><b>x"}))
    page = tmp_path / "page.html"
    CliRunner().invoke(main, ["report", str(recorded), "--html", str(page)], catch_exceptions=False)
    assert "</script><b>" not in page.read_text()
    assert page_data(read_run(recorded))["summary"]["command"] == "</script><b>x"


def test_a_waterfall_needs_traces(recorded: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["report", str(recorded), "-o", str(tmp_path / "w.png")])
    assert result.exit_code == 2
    assert "there is no waterfall" in result.output
