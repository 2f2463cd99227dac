"""The command ``maskmesh points``."""

from pathlib import Path
from typing import Any

import click

from maskmesh.cli.media.outputs import check_outputs, check_suffix
from maskmesh.cli.media.source_frames import SourcePath
from maskmesh.cli.mesh.gateway_options import Gateway, gateway_options, with_gateway
from maskmesh.cli.mesh.mesh_options import mesh_options, point_flags, with_flags
from maskmesh.cli.points.follow import PointJob, follow_points
from maskmesh.cli.prompt_options import Numbers
from maskmesh.cli.records.options import RecordOptions, record_options
from maskmesh.cli.run import run, verbose_option
from maskmesh.points import MotionOptions

# Frames of a window of motion.
MAX_WINDOW = 256

_FILE = click.Path(dir_okay=False, path_type=Path)


class _Grid(click.ParamType[tuple[int, int]]):
    """A grid: ROWSxCOLUMNS."""

    name = "ROWSxCOLUMNS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            rows, columns = map(int, str(value).lower().split("x"))
        except ValueError:
            self.fail(f"{value!r} is not ROWSxCOLUMNS, for example 20x20", param, ctx)
        return rows, columns


@click.command(name="points")
@click.argument("source", type=SourcePath())
@mesh_options
@gateway_options
@click.option("--point", "places", type=Numbers("X,Y", (2,)), multiple=True, help="A point to follow.")
@click.option("--grid", type=_Grid(), help="Follow a grid of points.")
@click.option(
    "--inside",
    type=Numbers("X,Y", (2,)),
    help="Put the grid inside the object at this place, which is segmented first.",
)
@click.option("--frame", type=click.IntRange(0), default=0, help="Frame on which the points are chosen.")
@click.option("--max-frames", type=click.IntRange(0), default=0, help="Number of frames; 0 means all.")
@click.option(
    "--point-model",
    default="lucas-kanade",
    show_default=True,
    help="Model for points: tapir (with --point-checkpoint), or lucas-kanade, which has no weights and loses "
    "points that are hidden.",
)
@click.option(
    "--point-checkpoint",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Checkpoint of the model for points.",
)
@click.option(
    "--motion",
    type=_FILE,
    help="File for the motion in windows of --window frames that begin every --stride (JSON).",
)
@click.option("--motion-fps", type=click.FloatRange(0), default=0.0, help="Rate of the frames of windows.")
@click.option("--tokens", is_flag=True, help="Codes of the motion tokenizer, in --motion.")
@click.option(
    "--motion-checkpoint",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Checkpoint of the motion tokenizer.",
)
@click.option(
    "--energy-threshold",
    type=click.FloatRange(0),
    default=0.0,
    help="Energy at which an action begins; 0 finds no boundaries.",
)
@click.option("-o", "--output", type=_FILE, help="File for the overlay.")
@click.option("--tracks", type=_FILE, help="File for the tracks (CSV).")
@record_options
@verbose_option
def points_command(
    *,
    source: Path,
    gateway: Gateway,
    places: tuple[tuple[float, float], ...],
    grid: tuple[int, int] | None,
    inside: tuple[float, float] | None,
    frame: int,
    max_frames: int,
    point_model: str,
    point_checkpoint: Path | None,
    motion: Path | None,
    motion_fps: float,
    tokens: bool,
    motion_checkpoint: Path | None,
    energy_threshold: float,
    records: RecordOptions,
    output: Path | None,
    tracks: Path | None,
    **options: Any,
) -> None:
    """Follow points through a video, or through a folder of images that are its frames:

    \b
    maskmesh points clip.mp4 --grid 20x20 -o tracks.mp4
    maskmesh points clip.mp4 --grid 12x12 --inside 480,270 --tracks tracks.csv
    maskmesh points clip.mp4 --grid 20x20 --motion motion.json --window 16 --stride 4 --energy-threshold 0.05
    """
    if not places and grid is None:
        raise click.UsageError("at least one --point or a --grid is needed")
    if inside is not None and grid is None:
        raise click.UsageError("--inside places a --grid, which is missing")
    if motion is None and (tokens or energy_threshold or motion_fps or motion_checkpoint is not None):
        raise click.UsageError(
            "--tokens, --energy-threshold, --motion-fps and --motion-checkpoint need a file for --motion"
        )
    outputs = {"--output": output, "--tracks": tracks, "--motion": motion}
    check_outputs([source] if source.is_file() else [], outputs)
    check_suffix("--output", output, is_video=True)
    options_of_motion = None
    if motion is not None:
        options_of_motion = _motion(records, motion_fps, tokens=tokens, energy_threshold=energy_threshold)
    job = PointJob(
        source,
        places,
        grid,
        inside,
        frame,
        max_frames,
        output,
        tracks,
        motion,
        options_of_motion,
        records,
    )
    flags = point_flags(point_model, point_checkpoint)
    tokenizer = []
    if motion_checkpoint is not None:
        tokenizer = ["--motion-checkpoint", str(motion_checkpoint.absolute())]
    mesh = records.mesh_options(with_flags(options, {"encoder": flags, "tracker": [*flags, *tokenizer]}))
    run(with_gateway(lambda client: follow_points(job, client), gateway, mesh), trace="points")


def _motion(records: RecordOptions, rate: float, *, tokens: bool, energy_threshold: float) -> MotionOptions:
    """The options of motion; its windows are those of the records.  Raises UsageError."""
    budget = records.budget
    length = budget.window_length if budget.window_length > 1 else MotionOptions().window_length
    stride = budget.window_stride or min(MotionOptions().window_stride, length)
    if not stride <= length <= MAX_WINDOW:
        raise click.UsageError(f"with --motion, --window is 2 to {MAX_WINDOW}, and --stride at most --window")
    return MotionOptions(
        window_length=length,
        window_stride=stride,
        frames_per_second=rate,
        tokens=tokens,
        energy_threshold=energy_threshold,
    )
