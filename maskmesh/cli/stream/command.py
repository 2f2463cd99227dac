"""The command ``maskmesh stream``."""

from pathlib import Path
from typing import Any

import click

from maskmesh.cli.mesh.gateway_options import Gateway, gateway_options, with_gateway
from maskmesh.cli.mesh.mesh_options import mesh_options
from maskmesh.cli.points.options import Grid, PointSettings, point_options
from maskmesh.cli.prompt_options import ConceptCommand, FrameConcept, PromptsByObject
from maskmesh.cli.records.options import RecordOptions, record_options
from maskmesh.cli.run import run, verbose_option
from maskmesh.cli.stream.job import StreamJob, check_job
from maskmesh.cli.stream.stream import stream_source
from maskmesh.cli.stream.terminal import is_interactive
from maskmesh.client.live.overload import Overload
from maskmesh.concepts import ConceptOptions

_FILE = click.Path(dir_okay=False, path_type=Path)

# Grey levels.
DEFAULT_MOTION_THRESHOLD = 4.0

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
    help="Grey levels above which --motion-gate sees motion; 4 by default.",
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
@click.option("--grid", type=Grid(), help="Follow a grid of points from the first frame on.")
@click.option(
    "--inside-object",
    type=click.IntRange(0),
    help="Put the grid inside the mask of this object, on the frame of its first prompt.",
)
@point_options
@record_options
@click.option("-o", "--output", type=_FILE, help="File for the overlay.")
@click.option("--masks", type=_FILE, help="File for the masks (JSON lines, COCO RLE).")
@click.option("--tracks", type=_FILE, help="File for the tracks of points (CSV).")
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
    motion_threshold: float | None,
    paced: bool,
    silence: float,
    commands: str | None,
    grid: tuple[int, int] | None,
    inside_object: int | None,
    point_settings: PointSettings,
    records: RecordOptions,
    output: Path | None,
    masks: Path | None,
    tracks: Path | None,
    **options: Any,
) -> None:
    """Track objects through live video.

    SOURCE is a file, pictures (frames/%05d.jpg), a camera (/dev/video0) or a URL (rtsp://...).  Each
    prompt belongs to the --object and --frame before it, as in segment; sent frames are numbered from 0:

        maskmesh stream rtsp://camera/1 --point 480,270 --object 2 --frame 100 --box 100,80,300,240

    In a terminal, further clicks, boxes, removals and pauses can be typed while it runs; help lists them.
    With --fps or --budget each result tells whether its window kept its budget:

        maskmesh stream /dev/video0 --fps 15 --motion-gate --records run

    With --grid points are followed, and with --motion their actions are told while they happen (JSON lines):

        maskmesh stream rtsp://camera/1 --grid 20x20 --motion motion.jsonl --energy-threshold 0.05
    """
    if not prompts and not concepts and grid is None and commands is None and not is_interactive():
        raise click.UsageError("at least one --point, --box, --concept, --grid or --commands is needed")
    if motion_threshold is not None and not is_gated:
        raise click.UsageError("--motion-threshold has no effect without --motion-gate")
    if inside_object is not None and grid is None:
        raise click.UsageError("--inside-object places a --grid, which is missing")
    job = StreamJob(
        source=source,
        prompts=prompts,
        concepts=concepts,
        concept_options=concept_options,
        max_frames=max_frames,
        overload=OVERLOADS[overload] if overload is not None else None,
        motion_gate=(motion_threshold or DEFAULT_MOTION_THRESHOLD) if is_gated else None,
        paced=paced,
        max_silence=silence,
        commands=commands,
        output=output,
        masks=masks,
        grid=grid,
        inside_object=inside_object,
        tracks=tracks,
        motion=point_settings.motion,
        motion_options=point_settings.motion_options(records.budget),
        records=records,
    )
    check_job(job)
    mesh = records.mesh_options(point_settings.mesh(options))
    run(stream_source(job, lambda work: with_gateway(work, gateway, mesh)), trace="stream")
