"""The command ``maskmesh points``."""

from pathlib import Path
from typing import Any

import click

from maskmesh.cli.media.outputs import check_outputs, check_suffix
from maskmesh.cli.media.source_frames import SourcePath, folder_frames
from maskmesh.cli.mesh.gateway_options import Gateway, gateway_options, with_gateway
from maskmesh.cli.mesh.mesh_options import mesh_options
from maskmesh.cli.points.follow import PointJob, follow_points
from maskmesh.cli.points.options import Grid, PointSettings, point_options
from maskmesh.cli.prompt_options import Numbers
from maskmesh.cli.records.options import RecordOptions, record_options
from maskmesh.cli.run import run, verbose_option

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(name="points")
@click.argument("source", type=SourcePath())
@mesh_options
@gateway_options
@click.option("--point", "places", type=Numbers("X,Y", (2,)), multiple=True, help="A point to follow.")
@click.option("--grid", type=Grid(), help="Follow a grid of points.")
@click.option(
    "--inside",
    type=Numbers("X,Y", (2,)),
    help="Put the grid inside the object at this place, which is segmented first.",
)
@click.option("--frame", type=click.IntRange(0), default=0, help="Frame on which the points are chosen.")
@click.option("--max-frames", type=click.IntRange(0), default=0, help="Number of frames; 0 means all.")
@point_options
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
    point_settings: PointSettings,
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
    outputs = {"--output": output, "--tracks": tracks, "--motion": point_settings.motion}
    check_outputs([source] if source.is_file() else folder_frames(source), outputs)
    check_suffix("--output", output, is_video=True)
    job = PointJob(
        source,
        places,
        grid,
        inside,
        frame,
        max_frames,
        output,
        tracks,
        point_settings.motion,
        point_settings.motion_options(records.budget),
        records,
    )
    mesh = records.mesh_options(point_settings.mesh(options))
    run(with_gateway(lambda client: follow_points(job, client), gateway, mesh), trace="points")
