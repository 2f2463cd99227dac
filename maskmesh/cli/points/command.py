"""The command ``maskmesh points``."""

from pathlib import Path
from typing import Any

import click

from maskmesh.cli.media.outputs import check_outputs, check_suffix
from maskmesh.cli.mesh.gateway_options import Gateway, gateway_options, with_gateway
from maskmesh.cli.mesh.mesh_options import mesh_options, mesh_with_flags
from maskmesh.cli.points.follow import PointJob, follow_points
from maskmesh.cli.run import run, verbose_option

_FILE = click.Path(dir_okay=False, path_type=Path)


class _Place(click.ParamType[tuple[float, float]]):
    """A place: X,Y."""

    name = "X,Y"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            x, y = map(float, str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not X,Y", param, ctx)
        return x, y


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
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@mesh_options
@gateway_options
@click.option("--point", "places", type=_Place(), multiple=True, help="A point to follow.")
@click.option("--grid", type=_Grid(), help="Follow a grid of points.")
@click.option(
    "--inside", type=_Place(), help="Put the grid inside the object at this place, which is segmented first."
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
@click.option("-o", "--output", type=_FILE, help="File for the overlay.")
@click.option("--tracks", type=_FILE, help="File for the tracks (CSV).")
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
    output: Path | None,
    tracks: Path | None,
    **options: Any,
) -> None:
    """Follow points through a video, or through a folder of images that are its frames:

    \b
    maskmesh points clip.mp4 --grid 20x20 -o tracks.mp4
    maskmesh points clip.mp4 --grid 12x12 --inside 480,270 --tracks tracks.csv
    """
    if not places and grid is None:
        raise click.UsageError("at least one --point or a --grid is needed")
    if inside is not None and grid is None:
        raise click.UsageError("--inside places a --grid, which is missing")
    check_outputs([source] if source.is_file() else [], {"--output": output, "--tracks": tracks})
    check_suffix("--output", output, is_video=True)
    job = PointJob(source, places, grid, inside, frame, max_frames, output, tracks)
    flags = ["--point-model", point_model]
    if point_checkpoint is not None:
        flags += ["--point-checkpoint", str(point_checkpoint)]
    mesh = mesh_with_flags(options, {"encoder": flags, "tracker": flags})
    run(with_gateway(lambda client: follow_points(job, client), gateway, mesh), trace="points")
