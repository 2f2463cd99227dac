"""The command ``maskmesh``: start a mesh, segment a video or an image, judge masks, read traces."""

import asyncio
import hashlib
import json
import secrets
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from maskmesh.cli.bench import BenchOptions, bench
from maskmesh.cli.gateway_options import Gateway, console, gateway_options, show_line, tls_files, with_gateway
from maskmesh.cli.local_mesh import LocalMesh, MeshError, MeshOptions
from maskmesh.cli.media import LiveSource
from maskmesh.cli.prompt_options import PromptCommand, PromptsByObject
from maskmesh.cli.segment import Job, say_model, segment
from maskmesh.cli.stream import StreamJob, check_job, stream
from maskmesh.client.async_client import AsyncClient
from maskmesh.errors import InvalidRequest, MaskmeshError
from maskmesh.rpc.tls import Tls
from maskmesh.trace_report.report import choose_frame, make_report
from maskmesh.trace_report.table import print_report
from maskmesh.version import __version__

_MODEL = click.option("--model", default="micro", show_default=True, help="Preset of the model.")
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
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)
_DEVICE = click.option("--device", default="cpu", show_default=True, help="Torch device.")
_DTYPE = click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="auto",
    show_default=True,
    help="Type of weights and activations; auto takes bfloat16 where the device computes in it.",
)
_COUNT = click.IntRange(1, 64)
_THREADS = click.option(
    "--threads", default=0, help="Threads of each service with a model; 0 leaves it to the services."
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
@_DTYPE
@_THREADS
@click.option("--encoders", type=_COUNT, default=1, show_default=True, help="Number of encoders.")
@click.option("--trackers", type=_COUNT, default=1, show_default=True, help="Number of trackers.")
@click.option("--gateways", type=_COUNT, default=1, show_default=True, help="Number of gateways.")
@click.option(
    "--devices",
    help="Torch devices in place of --device, with commas between them: one after the other for encoders, "
    "then for trackers, and from the beginning again.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=50050, show_default=True, help="Port of the first gateway; 0 for any.")
@click.option("--encoder-port", default=0, help="Port of the first encoder; 0 for any.")
@click.option("--tracker-port", default=0, help="Port of the first tracker; 0 for any.")
@tls_files
def up(*, devices: str | None, tls: Tls | None, **options: Any) -> None:
    """Start encoders, trackers and gateways, and stop them on Ctrl-C.

    Several gateways, and sessions that outlive their tracker, need a store: MASKMESH_SESSION_URL.
    """
    chosen = tuple(devices.split(",")) if devices else ()
    _run(_up(MeshOptions(**options, devices=chosen, tls=tls)))


@main.command(name="segment", cls=PromptCommand)
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_MODEL
@_CHECKPOINT
@_IMAGE_SIZE
@_DEVICE
@_DTYPE
@_THREADS
@gateway_options
@click.option("--max-frames", default=0, help="Largest number of frames; 0 means all.")
@click.option("--multimask", is_flag=True, help="Three alternatives for each object (images only).")
@click.option("-o", "--output", type=_FILE, help="Overlay to write.")
@click.option("--masks", type=_FILE, help="Masks to write (COCO RLE).")
@click.option(
    "--truth",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="True masks, in the form of --masks, to compare with (videos only).",
)
@click.option("--verbose", is_flag=True, help="Show the log of the mesh that is started.")
def segment_command(
    *,
    source: Path,
    prompts: PromptsByObject,
    gateway: Gateway,
    max_frames: int,
    multimask: bool,
    output: Path | None,
    masks: Path | None,
    truth: Path | None,
    verbose: bool,
    **options: Any,
) -> None:
    """Segment a video or an image.

    Prompts belong to the --object and --frame before them (object 1 and frame 0 at first):

        maskmesh segment clip.mp4 --point 480,270 --object 2 --frame 10 --box 100,80,300,240 -o out.mp4
    """
    if not prompts:
        raise click.UsageError("at least one --point or --box is needed")
    job = Job(source, prompts, max_frames, multimask, output, masks, truth)
    _run(
        with_gateway(
            lambda client: segment(job, client, console), gateway, MeshOptions(**options), verbose=verbose
        )
    )


@main.command(name="stream", cls=PromptCommand)
@click.argument("source")
@_MODEL
@_CHECKPOINT
@_IMAGE_SIZE
@_DEVICE
@_DTYPE
@_THREADS
@gateway_options
@click.option("--max-frames", default=0, help="Largest number of frames to send; 0 means all.")
@click.option(
    "--skip/--wait",
    default=None,
    help="Whether frames are left out that come too fast; by default those of cameras and addresses are.",
)
@click.option("--paced", is_flag=True, help="Send the frames of a file at its own rate.")
@click.option("-o", "--output", type=_FILE, help="Overlay to write.")
@click.option("--masks", type=_FILE, help="Masks to write (JSON lines, COCO RLE).")
@click.option("--verbose", is_flag=True, help="Show the log of the mesh that is started.")
def stream_command(
    *,
    source: str,
    prompts: PromptsByObject,
    gateway: Gateway,
    max_frames: int,
    skip: bool | None,
    paced: bool,
    output: Path | None,
    masks: Path | None,
    verbose: bool,
    **options: Any,
) -> None:
    """Track objects through live video.

    SOURCE is a file, a camera (/dev/video0) or an address (rtsp://...).  Prompts belong to the --object and
    --frame before them, as in segment; frames count from 0 as they are sent:

        maskmesh stream rtsp://camera/1 --point 480,270 --object 2 --frame 100 --box 100,80,300,240
    """
    if not prompts:
        raise click.UsageError("at least one --point or --box is needed")
    try:
        opened = LiveSource(source)
    except OSError as error:
        raise click.ClickException(str(error)) from error
    job = StreamJob(
        opened, prompts, max_frames, opened.is_live if skip is None else skip, paced, output, masks
    )
    check_job(job)
    _run(
        with_gateway(
            lambda client: stream(job, client, console), gateway, MeshOptions(**options), verbose=verbose
        )
    )


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
    from maskmesh.trace_report.waterfall import draw_waterfall

    try:
        made = make_report(traces)
        draw_waterfall(choose_frame(made, frame), output)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(made.to_json(), indent=2))
    else:
        print_report(made)
        Console(highlight=False).print(f"waterfall: {output}")


@main.command()
@click.option("--images", type=_FOLDER, required=True, help="Folder of images, or of the frames of a clip.")
@click.option("--masks", type=_FOLDER, required=True, help="Folder of their true masks, of equal names.")
@click.option("--video", is_flag=True, help="The images are the frames of one clip, in order of their names.")
@click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="File for figures."
)
@gateway_options
@_MODEL
@_CHECKPOINT
@_IMAGE_SIZE
@_DEVICE
@_DTYPE
@_THREADS
def evaluate(
    *,
    images: Path,
    masks: Path,
    video: bool,
    json_path: Path | None,
    gateway: Gateway,
    **options: Any,
) -> None:
    """Compare masks with true ones: IoU of images from a click and a box, J and F of a clip from a click.

    A mask with a palette has an object's number in each pixel, as in DAVIS; any other is one object.
    """
    try:
        # SciPy measures distances, and only this command needs it.
        from maskmesh.cli.evaluate import evaluate_folder
    except ImportError as error:
        raise click.ClickException(f"{error}; pip install 'maskmesh[evaluate]'") from error

    _run(
        with_gateway(
            lambda client: evaluate_folder(client, images, masks, video=video, json_path=json_path),
            gateway,
            MeshOptions(**options),
        )
    )


@main.command()
@click.argument("name")
def key(name: str) -> None:
    """Make an API key for NAME: printed once, with the entry for the gateway's file of keys."""
    made = secrets.token_urlsafe(32)
    digest = hashlib.sha256(made.encode()).hexdigest()
    click.echo(f"key, to be given away and kept nowhere else: {made}", err=True)
    click.echo(f'[[key]]\nname = {json.dumps(name)}\nsha256 = "{digest}"')


@main.command(name="bench")
@click.option(
    "--frames",
    type=click.IntRange(8),
    default=32,
    show_default=True,
    help="Frames of each session after the warm-up.",
)
@click.option("--objects", type=click.IntRange(1, 4), default=1, show_default=True, help="Objects in each.")
@click.option(
    "--sessions",
    type=click.IntRange(1),
    multiple=True,
    default=(1, 2, 4, 8),
    show_default=True,
    help="Sessions at once; may be given again.",
)
@click.option("--json", "json_path", type=_FILE, help="File for the figures.")
@gateway_options
@_MODEL
@_CHECKPOINT
@_IMAGE_SIZE
@_DEVICE
@_DTYPE
@_THREADS
def bench_command(
    *,
    frames: int,
    objects: int,
    sessions: tuple[int, ...],
    json_path: Path | None,
    gateway: Gateway,
    **options: Any,
) -> None:
    """Time clicks, one session and several at once.  Nothing else should run meanwhile."""
    asked = BenchOptions(frames, objects, sessions)
    _run(
        with_gateway(lambda client: bench(client, asked, json_path, console), gateway, MeshOptions(**options))
    )


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


async def _up(options: MeshOptions) -> None:
    try:
        async with LocalMesh(options, log=show_line) as mesh:
            async with AsyncClient(mesh.endpoint, tls=options.tls) as client, client.session() as session:
                say_model(session.model, console)
            click.echo(f"maskmesh is ready at {mesh.endpoint}")
            await mesh.wait()
    except asyncio.CancelledError:
        console.print("stopped")


if __name__ == "__main__":
    main()
