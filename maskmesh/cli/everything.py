"""``maskmesh everything``: all objects of an image, without prompts."""

from pathlib import Path
from typing import Any

import click

from maskmesh.cli.media.outputs import MasksFile, check_outputs, check_suffix
from maskmesh.cli.media.overlay import overlay, save_picture
from maskmesh.cli.mesh.gateway_options import Gateway, gateway_options, with_gateway
from maskmesh.cli.mesh.local_mesh import MeshOptions
from maskmesh.cli.mesh.mesh_options import mesh_options
from maskmesh.cli.run import console, run, say, verbose_option
from maskmesh.cli.segment.segment import say_model
from maskmesh.cli.tracing import step
from maskmesh.client.async_client import AsyncClient
from maskmesh.image_objects import ImageObjects
from maskmesh.masks import MaskOptions, RleMask
from maskmesh.media.pictures import is_picture, read_picture

_FILE = click.Path(dir_okay=False, path_type=Path)
_SHARE = click.FloatRange(0, 1)


@click.command()
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@mesh_options
@gateway_options
@click.option(
    "--points-per-side",
    type=click.IntRange(1, 64),
    default=32,
    show_default=True,
    help="Points on each side of the grid.",
)
@click.option("--min-iou", type=_SHARE, default=0.8, show_default=True, help="Least predicted IoU of a mask.")
@click.option("--min-stability", type=_SHARE, default=0.95, show_default=True, help="Least stability.")
@click.option(
    "--max-box-iou", type=_SHARE, default=0.7, show_default=True, help="Overlap that makes a repetition."
)
@click.option(
    "--crop-layers",
    type=click.IntRange(0, 3),
    default=0,
    show_default=True,
    help="Also search 4, 16 or 64 parts of the image, for small objects.",
)
@click.option("--min-area", type=click.IntRange(0), default=0, help="Least number of pixels of a mask.")
@click.option("--max-masks", type=click.IntRange(0), default=0, help="Number of masks; 0 means all.")
@click.option("--fill-holes", type=click.IntRange(0), default=0, help="Fill holes of up to so many pixels.")
@click.option("--remove-specks", type=click.IntRange(0), default=0, help="Remove specks of so many pixels.")
@click.option("-o", "--output", type=_FILE, help="File for the overlay.")
@click.option("--masks", "masks_path", type=_FILE, help="File for the masks (COCO RLE).")
@verbose_option
def everything(
    *,
    image: Path,
    gateway: Gateway,
    points_per_side: int,
    min_iou: float,
    min_stability: float,
    max_box_iou: float,
    crop_layers: int,
    min_area: int,
    max_masks: int,
    fill_holes: int,
    remove_specks: int,
    output: Path | None,
    masks_path: Path | None,
    **options: Any,
) -> None:
    """Find all objects of an IMAGE without prompts, from a grid of points:

    maskmesh everything photo.jpg -o objects.png --masks objects.json
    """
    if not is_picture(image):
        raise click.UsageError(f"{image} is no picture")
    check_outputs([image], {"--output": output, "--masks": masks_path})
    check_suffix("--output", output, is_video=False)

    async def work(client: AsyncClient) -> None:
        async with client.session() as session:
            say_model(session.model)
        with console.status("searching"):
            found = await client.segment_everything(
                image,
                points_per_side=points_per_side,
                min_predicted_iou=min_iou,
                min_stability=min_stability,
                max_box_iou=max_box_iou,
                crop_layers=crop_layers,
                min_area=min_area,
                max_masks=max_masks,
                mask_options=MaskOptions(fill_holes_area=fill_holes, remove_specks_area=remove_specks),
            )
        _write(found, image, output, masks_path)

    run(with_gateway(work, gateway, MeshOptions(**options)), trace="everything")


def _write(found: ImageObjects, image: Path, output: Path | None, masks_path: Path | None) -> None:
    say(f"{len(found.masks)} objects")
    if masks_path is not None:
        header = {"source": image.name, "width": found.width, "height": found.height, "is_image": True}
        with MasksFile(masks_path, header) as file:
            file.write({"frame_index": 0, "objects": _objects(found)})
        say(f"masks: {masks_path}")
    if output is not None:
        shown = {n: m.mask for n, m in enumerate(found.masks, start=1) if isinstance(m.mask, RleMask)}
        with step("draw"):
            save_picture(output, overlay(read_picture(image), shown))
        say(f"overlay: {output}")
    say(f"trace: {found.trace_id}")


def _objects(found: ImageObjects) -> list[dict[str, object]]:
    """The objects in the JSON form of ``--masks``, numbered from 1."""
    objects: list[dict[str, object]] = []
    for number, each in enumerate(found.masks, start=1):
        assert isinstance(each.mask, RleMask), "the command requests COCO RLE"
        objects.append(
            {
                "obj_id": number,
                "segmentation": each.mask.to_coco(),
                "predicted_iou": round(each.predicted_iou, 4),
                "stability": round(each.stability, 4),
                "point": [round(value, 2) for value in each.point],
                "area": each.area,
            }
        )
    return objects
