"""The output of ``maskmesh report``."""

from rich import box
from rich.console import Console
from rich.table import Table

from maskmesh.trace_report.report import Report

_TABLE_WIDTH = 96  # least width of the table of stages, even if the output is a file


def print_report(made: Report) -> None:
    """Print the table of stages, and the latency of frames and calls."""
    terminal = Console(highlight=False)
    output = Console(highlight=False, width=max(terminal.width, _TABLE_WIDTH))
    table = Table(title="Stages (milliseconds)", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("stage", no_wrap=True)
    table.add_column("frames", no_wrap=True)
    for name in ("calls", "mean", "p50", "p95", "max", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    shares = made.shares()
    last = None
    for row in made.stages:
        # The share is that of the stage over all frames, so it is printed in its first row only.
        share = f"{shares.get(row.stage, 0):.1%}" if row.stage != last else ""
        table.add_row(
            row.stage if row.stage != last else "",
            row.situation,
            str(row.calls),
            *(f"{v:.2f}" for v in (row.mean_ms, row.p50_ms, row.p95_ms, row.max_ms)),
            share,
        )
        last = row.stage
    output.print(table)
    summary = made.summary()
    if "calls_unnamed_share" in summary:
        unnamed = f"{summary['calls_unnamed_share']:.2%}"
        output.print(f"{len(made.calls)} calls (clicks and images); {unnamed} of their time is in no stage")
        _print_path(output, "calls", summary["calls_critical_path_named"])
    if "frames" not in summary:
        return
    output.print(
        f"{summary['frames']} frames; the first after {summary['first_frame_ms']:.1f} ms, then one every "
        f"{summary.get('median_frame_ms', 0):.1f} ms ({summary.get('frames_per_second', 0):.1f} a second)"
    )
    output.print(
        "share: of the time between deliveries, attributed to the deepest stage of the frame; "
        f"no stage: {summary['unnamed_share']:.2%}, worst frame {summary['worst_unnamed_share']:.1%}"
    )
    _print_path(output, "frames", summary["critical_path_named"])


def _print_path(output: Console, what: str, share: float) -> None:
    output.print(f"critical path of {what} as in Jaeger: {share:.1%} on stages, waits and transfers")
