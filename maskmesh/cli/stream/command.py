"""The command ``maskmesh stream``."""

from pathlib import Path
from typing import Any

import click

from maskmesh.cli.mesh.gateway_options import Gateway, gateway_options, with_gateway
from maskmesh.cli.mesh.mesh_options import mesh_options
from maskmesh.cli.prompt_options import ConceptCommand, FrameConcept, PromptsByObject
from maskmesh.cli.records.options import RecordOptions, record_options
from maskmesh.cli.run import run, verbose_option
from maskmesh.cli.stream.job import StreamJob, check_job
from maskmesh.cli.stream.stream import stream_source
from maskmesh.cli.stream.terminal import is_interactive
from maskmesh.client.live.overload import Overload
from maskmesh.concepts import ConceptOptions

_FILE = click.Path(dir_okay=False, path_type=Path)

OVERLOADS: dict[str, Overload] = {"wait": "wait", "skip": "skip", "drop-oldest": "drop_oldest"}
"""The values of --overload."""


@click.command(name="stream", cls=ConceptCommand, is_live=True)
@click.argument("source")
@mesh_options
@gateway_options
@click.option(
    "--max-frames", type=click.IntRange(min=0), default=0, help="Number of frames to send; 0 means all."
)
@click.option(
    "--overload",
    type=click.Choice(["wait", "skip", "drop-oldest"]),
    help="Frames that come too fast: sending waits, all but the newest are skipped, or up to 8 are queued. "
    "By default the frames of cameras and URLs are skipped.",
)
@click.option(
    "--motion-gate",
    "is_gated",
    is_flag=True,
    help="Do not encode frames on which nothing has moved.",
)
@click.option(
    "--motion-threshold",
    type=click.FloatRange(0, 255, min_open=True),
    default=4.0,
    show_default=True,
    help="Grey levels above which --motion-gate sees motion.",
)
@click.option("--paced", is_flag=True, help="Send the frames of a file at --fps, or at its own rate.")
@click.option(
    "--silence",
    type=click.FloatRange(0, min_open=True),
    default=60.0,
    show_default=True,
    help="Seconds without a frame after which the command ends.",
)
@click.option(
    "--commands",
    metavar="FILE",
    help="File or pipe of commands to carry out while the stream runs; - is standard input.",
)
@record_options
@click.option("-o", "--output", type=_FILE, help="File for the overlay.")
@click.option("--masks", type=_FILE, help="File for the masks (JSON lines, COCO RLE).")
@verbose_option
def stream_command(
    *,
    source: str,
    prompts: PromptsByObject,
    concepts: list[FrameConcept],
    concept_options: ConceptOptions,
    gateway: Gateway,
    max_frames: int,
    overload: str | None,
    is_gated: bool,
    motion_threshold: float,
    paced: bool,
    silence: float,
    commands: str | None,
    records: RecordOptions,
    output: Path | None,
    masks: Path | None,
    **options: Any,
) -> None:
    """Track objects through live video.

    SOURCE is a file, pictures (frames/%05d.jpg), a camera (/dev/video0) or a URL (rtsp://...).  Each
    prompt belongs to the --object and --frame before it, as in segment; sent frames are numbered from 0:

        maskmesh stream rtsp://camera/1 --point 480,270 --object 2 --frame 100 --box 100,80,300,240

    In a terminal, further clicks, boxes, removals and pauses can be typed while it runs; help lists them.
    With --fps or --budget each result tells whether its window kept its budget:

        maskmesh stream /dev/video0 --fps 15 --motion-gate --records run
    """
    if not prompts and not concepts and commands is None and not is_interactive():
        raise click.UsageError("at least one --point, --box, --concept or --commands is needed")
    job = StreamJob(
        source=source,
        prompts=prompts,
        concepts=concepts,
        concept_options=concept_options,
        max_frames=max_frames,
        overload=OVERLOADS[overload] if overload is not None else None,
        motion_gate=motion_threshold if is_gated else None,
        paced=paced,
        max_silence=silence,
        commands=commands,
        output=output,
        masks=masks,
        records=records,
    )
    check_job(job)
    mesh = records.mesh_options(options)
    run(stream_source(job, lambda work: with_gateway(work, gateway, mesh)), trace="stream")
