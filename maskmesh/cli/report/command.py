"""The command ``maskmesh report``."""

import json
from pathlib import Path

import click

from maskmesh.cli.media.outputs import check_outputs
from maskmesh.cli.run import verbose_option
from maskmesh.trace_report.report import choose_frame, make_report
from maskmesh.trace_report.table import print_report
from maskmesh.trace_report.trace_files import trace_files

_DRAWN = (".png", ".svg", ".pdf", ".jpg")


@click.command()
@click.argument("traces", type=click.Path(exists=True, path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default="waterfall.png",
    show_default=True,
    help="File for the waterfall.",
)
@click.option("--frame", type=int, help="Frame of the waterfall; by default one of median latency.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@verbose_option
def report(traces: Path, output: Path, frame: int | None, *, as_json: bool) -> None:
    """Report latencies from traces: a table of stages, and the waterfall of one frame.

    TRACES is a folder of trace files, or one trace file.
    """
    # Imported here, because matplotlib is slow to import and only this command draws.
    from maskmesh.trace_report.waterfall import draw_waterfall

    check_outputs(trace_files(traces), {"--output": output})
    if output.suffix.lower() not in _DRAWN:
        raise click.UsageError(f"--output {output}: a drawing has one of the suffixes {', '.join(_DRAWN)}")
    latency_report = make_report(traces)
    draw_waterfall(choose_frame(latency_report, frame), output)
    if as_json:
        click.echo(json.dumps(latency_report.to_json(), indent=2))
    else:
        print_report(latency_report)
        click.echo(f"waterfall: {output}")
