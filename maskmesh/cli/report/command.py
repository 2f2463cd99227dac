"""The command ``maskmesh report``."""

import json
from collections.abc import Sequence
from pathlib import Path

import click

from maskmesh.cli.media.outputs import check_outputs
from maskmesh.cli.records.options import RecordOptions, record_options
from maskmesh.cli.run import verbose_option
from maskmesh.records.run_files import RunFiles
from maskmesh.records.summary import RunStatistics
from maskmesh.records.window_timer import WindowTimer
from maskmesh.trace_report.report import choose_frame
from maskmesh.trace_report.run_data import FrameTimes, RunData, read_run
from maskmesh.trace_report.table import print_report
from maskmesh.trace_report.trace_files import trace_files

_FILE = click.Path(dir_okay=False, path_type=Path)
_DRAWN = (".png", ".svg", ".pdf", ".jpg")


@click.command()
@click.argument("run", metavar="TRACES", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", type=_FILE, help="File for the waterfall.  [default: waterfall.png]")
@click.option("--frame", type=int, help="Frame of the waterfall; by default one of median latency.")
@click.option("--charts", type=_FILE, help="File for a picture of stages, latencies, memory and cores.")
@click.option("--html", "page", type=_FILE, help="File for a page with all of it; it needs no network.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@record_options
@verbose_option
def report(
    run: Path,
    output: Path | None,
    frame: int | None,
    charts: Path | None,
    page: Path | None,
    records: RecordOptions,
    *,
    as_json: bool,
) -> None:
    """Report where the time goes: a table of stages, the waterfall of one frame, charts, a page.

    TRACES is a folder of trace files, one trace file, or the folder of a recorded run:

        \b
        maskmesh segment clip.mp4 --point 480,270 --records run
        maskmesh report run --html run.html

    --records writes the windows and the summary of traces, under the budget that is given.
    """
    # Imported here, because matplotlib is slow to import and only this command draws.
    from maskmesh.trace_report.charts import draw_charts
    from maskmesh.trace_report.page import write_page
    from maskmesh.trace_report.waterfall import draw_waterfall

    inputs = [*trace_files(run), *run.glob("*/*.jsonl")] if run.is_dir() else [run]
    check_outputs(inputs, {"--output": output, "--charts": charts, "--html": page})
    for option, path in (("--output", output), ("--charts", charts)):
        if path is not None and path.suffix.lower() not in _DRAWN:
            raise click.UsageError(f"{option} {path}: a drawing has one of the suffixes {', '.join(_DRAWN)}")
    folder = records.folder
    if folder is not None and folder.is_dir() and run.is_dir() and folder.samefile(run):
        raise click.UsageError(
            f"--records {folder} would overwrite the records of {run}: name another folder"
        )
    data = read_run(run)
    written: list[tuple[str, Path]] = []
    if data.report is not None and (data.report.frames or data.report.calls or frame is not None):
        if output is None and charts is None and page is None:
            output = Path("waterfall.png")
        if output is not None:
            draw_waterfall(choose_frame(data.report, frame), output)
            written.append(("waterfall", output))
    elif output is not None or frame is not None:
        raise click.UsageError(f"{run} has no traces of frames or calls, so there is no waterfall")
    if charts is not None:
        draw_charts(data, charts)
        written.append(("charts", charts))
    if page is not None:
        write_page(data, page, title=f"maskmesh: {run.resolve().name}")
        written.append(("page", page))
    if records.folder is not None:
        _write_records(data.frames, records, records.folder)
        written.append(("records", records.folder))
    if as_json:
        click.echo(json.dumps(_json(data), indent=2))
        return
    if data.report is not None:
        print_report(data.report)
    for what, path in written:
        click.echo(f"{what}: {path}")


def _json(data: RunData) -> dict[str, object]:
    report = data.report.to_json() if data.report is not None else {}
    return report | ({"records": data.summary} if data.summary else {})


def _write_records(frames: Sequence[FrameTimes], options: RecordOptions, folder: Path) -> None:
    """Write the windows and the summary of frames that traces describe."""
    timer, statistics = WindowTimer(options.budget), RunStatistics()
    with RunFiles(folder) as files:
        for frame in frames:
            times = (frame.time_s - frame.total_s, frame.time_s)
            statistics.add_result(*times)
            window = timer.add(frame.number, *times, frame.stage_s)
            if window is not None:
                statistics.add_window(window)
                files.write_window(window.to_json())
        files.write_summary({"command": "report", **statistics.summary().to_json()})
