"""The command ``maskmesh``: its subcommands, each in a package of its own."""

import click

from maskmesh.cli.api_key import key
from maskmesh.cli.batch.command import batch
from maskmesh.cli.bench.command import bench_command
from maskmesh.cli.doctor.command import doctor
from maskmesh.cli.erase.command import erase_command
from maskmesh.cli.evaluate.command import evaluate
from maskmesh.cli.everything import everything
from maskmesh.cli.export.command import export
from maskmesh.cli.models.command import models
from maskmesh.cli.points.command import points_command
from maskmesh.cli.report.command import report
from maskmesh.cli.run import Commands
from maskmesh.cli.segment.command import segment_command
from maskmesh.cli.stream.command import stream_command
from maskmesh.cli.tune.command import tune
from maskmesh.cli.up import up
from maskmesh.cli.web.command import web
from maskmesh.version import __version__


@click.group(cls=Commands)
@click.version_option(__version__)
def main() -> None:
    """Promptable image and video segmentation over gRPC, with a trace for every frame."""


for command in (
    batch,
    bench_command,
    doctor,
    erase_command,
    evaluate,
    everything,
    export,
    key,
    models,
    points_command,
    report,
    segment_command,
    stream_command,
    tune,
    up,
    web,
):
    main.add_command(command)
