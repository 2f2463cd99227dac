"""The command ``maskmesh``: start a mesh, segment a video or an image, read traces."""

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from maskmesh.client import AsyncClient
from maskmesh.errors import InvalidRequest, MaskmeshError
from maskmesh.mesh import LocalMesh, MeshError, MeshOptions
from maskmesh.prompt_options import PromptCommand, PromptsByObject
from maskmesh.report import Report, choose_frame, make_report
from maskmesh.segment import Job, say_model, segment
from maskmesh.version import __version__

console = Console(stderr=True, highlight=False)

_TABLE_WIDTH = 96  # what the table of stages needs, also where the output is a file

_MODEL = click.option("--model", default="test", show_default=True, help="Preset of the model.")
_CHECKPOINT = click.option(
    "--checkpoint",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Checkpoint of the whole model (.pt or .safetensors).",
)
_IMAGE_SIZE = click.option(
    "--image-size",
    type=int,
    help="Side of the square that the model sees; the preset's by default.",
)
_DEVICE = click.option("--device", default="cpu", show_default=True, help="Torch device.")
_THREADS = click.option(
    "--threads", default=0, help="Threads of each service with a model; 0 leaves it to torch."
)


@click.group()
@click.version_option(__version__)
def main() -> None:
    """Promptable image and video segmentation over gRPC, with a trace for every frame."""


@main.command()
@_MODEL
@_CHECKPOINT
@_IMAGE_SIZE
@_DEVICE
@_THREADS
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=50050, show_default=True, help="Port of the gateway; 0 for any.")
@click.option("--encoder-port", default=0, help="Port of the encoder; 0 for any.")
@click.option("--tracker-port", default=0, help="Port of the tracker; 0 for any.")
def up(**options: Any) -> None:
    """Start encoder, tracker and gateway, and stop them on Ctrl-C."""
    _run(_up(MeshOptions(**options)))


@main.command(name="segment", cls=PromptCommand)
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_MODEL
@_CHECKPOINT
@_IMAGE_SIZE
@_DEVICE
@_THREADS
@click.option("--endpoint", help="Gateway to use; without one a mesh is started for this run.")
@click.option("--max-frames", default=0, help="Largest number of frames; 0 means all.")
@click.option("--multimask", is_flag=True, help="Three alternatives for each object (images only).")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Overlay to write.")
@click.option("--masks", type=click.Path(dir_okay=False, path_type=Path), help="Masks to write (COCO RLE).")
@click.option("--verbose", is_flag=True, help="Show the log of the mesh that is started.")
def segment_command(
    *,
    source: Path,
    prompts: PromptsByObject,
    endpoint: str | None,
    max_frames: int,
    multimask: bool,
    output: Path | None,
    masks: Path | None,
    verbose: bool,
    **options: Any,
) -> None:
    """Segment a video or an image.

    Prompts belong to the --object and --frame before them (object 1 and frame 0 at first):

        maskmesh segment clip.mp4 --point 480,270 --object 2 --frame 10 --box 100,80,300,240 -o out.mp4
    """
    if not prompts:
        raise click.UsageError("at least one --point or --box is needed")
    job = Job(source, prompts, max_frames, multimask, output, masks)
    _run(_segment(job, endpoint, MeshOptions(**options), verbose=verbose))


@main.command()
@click.argument("traces", type=click.Path(exists=True, path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default="waterfall.png",
    show_default=True,
    help="Waterfall to write.",
)
@click.option("--frame", type=int, help="Frame of the waterfall; a typical one by default.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def report(traces: Path, output: Path, frame: int | None, *, as_json: bool) -> None:
    """Where the time went: a table of stages, and one frame's waterfall.

    TRACES is a folder of trace files, or one of them.
    """
    # matplotlib is slow to import, and only this command draws.
    from maskmesh.waterfall import draw_waterfall

    try:
        made = make_report(traces)
        draw_waterfall(choose_frame(made, frame), output)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(made.to_json(), indent=2))
    else:
        _print_report(made)
        Console(highlight=False).print(f"waterfall: {output}")


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end; Ctrl-C and SIGTERM stop it in order."""

    async def run() -> None:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        await task

    try:
        asyncio.run(run())
    except asyncio.CancelledError:
        sys.exit(130)
    except InvalidRequest as error:
        raise click.ClickException(f"{error.field}: {error}") from error
    except (MaskmeshError, MeshError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def _log(name: str, line: str) -> None:
    console.print(f"[bold]{name:8}[/bold] {escape(line)}", soft_wrap=True)


async def _up(options: MeshOptions) -> None:
    try:
        async with LocalMesh(options, log=_log) as mesh:
            async with AsyncClient(mesh.endpoint) as client, client.session() as session:
                say_model(session.model, console)
            click.echo(f"maskmesh is ready at {mesh.endpoint}")
            await mesh.wait()
    except asyncio.CancelledError:
        console.print("stopped")


async def _segment(job: Job, endpoint: str | None, options: MeshOptions, *, verbose: bool) -> None:
    if endpoint is not None:
        await segment(job, endpoint, console)
        return
    log: Callable[[str, str], None] | None = _log if verbose else None
    with console.status(f"starting a mesh with {options.model}"):
        mesh = await LocalMesh(options, log=log).__aenter__()
    try:
        await segment(job, mesh.endpoint, console)
    finally:
        await mesh.stop()


def _print_report(made: Report) -> None:
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
        # The share is the stage's over all frames: said once.
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
        output.print(f"{len(made.calls)} calls (clicks and images); no stage: {unnamed} of their time")
    if "frames" not in summary:
        return
    output.print(
        f"{summary['frames']} frames; the first after {summary['first_frame_ms']:.1f} ms, then one every "
        f"{summary.get('median_frame_ms', 0):.1f} ms ({summary.get('frames_per_second', 0):.1f} a second)"
    )
    output.print(
        "share: of the time between deliveries, by the deepest stage that a frame was in; "
        f"no stage: {summary['unnamed_share']:.2%}, worst frame {summary['worst_unnamed_share']:.1%}"
    )


if __name__ == "__main__":
    main()
