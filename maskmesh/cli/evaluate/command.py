"""The command ``maskmesh evaluate``."""

from pathlib import Path
from typing import Any

import click

from maskmesh.cli.media.outputs import check_outputs
from maskmesh.cli.mesh.gateway_options import Gateway, gateway_options, with_gateway
from maskmesh.cli.mesh.mesh_options import mesh_options
from maskmesh.cli.records.options import RecordOptions, record_options
from maskmesh.cli.run import run, verbose_option

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.option("--images", type=_FOLDER, required=True, help="Folder of images, or of the frames of a clip.")
@click.option("--masks", type=_FOLDER, required=True, help="Folder of true masks with the same names.")
@click.option("--concept", default="", help="Phrase that prompts instead of clicks and boxes (SAM 3).")
@click.option("--video", is_flag=True, help="The images are the frames of one clip, in order of their names.")
@click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="JSON file for scores."
)
@gateway_options
@mesh_options
@record_options
@verbose_option
def evaluate(
    *,
    images: Path,
    masks: Path,
    concept: str,
    video: bool,
    json_path: Path | None,
    gateway: Gateway,
    records: RecordOptions,
    **options: Any,
) -> None:
    """Compare masks with true ones: IoU of images from a click and a box, J and F of a clip from a click.

    With --concept, the objects that a phrase finds are matched with the true ones: IoU, precision and recall.

    The pixels of a true mask with a palette are object numbers, as in DAVIS; any other mask is one object.
    """
    check_outputs([*images.iterdir(), *masks.iterdir()], {"--json": json_path})
    try:
        # Imported here, because only this command needs SciPy, which is an extra.
        from maskmesh.cli.evaluate.folder import EvaluationOptions, evaluate_folder
    except ImportError as error:
        raise click.ClickException(f"{error}; pip install 'maskmesh[evaluate]'") from error

    run(
        with_gateway(
            lambda client: evaluate_folder(
                client, images, masks, EvaluationOptions(video, concept, json_path, records)
            ),
            gateway,
            records.mesh_options(options),
        )
    )
