"""The command ``maskmesh export``."""

from collections.abc import Callable
from pathlib import Path

import click

from maskmesh.cli.export.annotation_tools import write_cvat, write_label_studio
from maskmesh.cli.export.datasets import write_coco, write_davis, write_yolo
from maskmesh.cli.export.masks_document import MasksDocument, read_masks
from maskmesh.cli.media.outputs import check_outputs
from maskmesh.cli.run import say, verbose_option

Write = Callable[[MasksDocument, Path, float], None]

FILE_FORMATS: dict[str, Write] = {"coco": write_coco, "cvat": write_cvat, "label-studio": write_label_studio}
FOLDER_FORMATS: dict[str, Write] = {"yolo": write_yolo, "davis": write_davis}


@click.command()
@click.argument("masks", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--format",
    "name",
    type=click.Choice([*FILE_FORMATS, *FOLDER_FORMATS]),
    required=True,
    help="coco, cvat and label-studio write a file, yolo and davis a folder.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="File or folder to write."
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    help="Pixels by which polygons may lie beside the masks (yolo, label-studio).",
)
@verbose_option
def export(masks: Path, name: str, output: Path, tolerance: float) -> None:
    """Write MASKS, a file that --masks has written, in the format of a dataset or an annotation tool:

    \b
    maskmesh segment clip.mp4 --point 480,270 --masks masks.json
    maskmesh export masks.json --format coco -o annotations.json
    """
    if name in FILE_FORMATS:
        check_outputs([masks], {"--output": output})
    elif output.exists() and not output.is_dir():
        raise click.UsageError(f"--output {output}: {name} writes a folder, and this is a file")
    document = read_masks(masks)
    if not document.frames:
        raise click.UsageError(f"{masks} has no frames")
    (FILE_FORMATS | FOLDER_FORMATS)[name](document, output, tolerance)
    count = sum(len(frame.objects) for frame in document.frames)
    say(f"{name}: {count} masks on {len(document.frames)} frames in {output}")
