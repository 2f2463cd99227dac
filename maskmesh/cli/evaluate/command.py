"""The command ``maskmesh evaluate``."""

from pathlib import Path
from typing import Any

import click

from maskmesh.cli.media.outputs import check_outputs
from maskmesh.cli.mesh.gateway_options import Gateway, gateway_options, with_gateway
from maskmesh.cli.mesh.mesh_options import mesh_options, point_flags, with_flags
from maskmesh.cli.records.options import RecordOptions, record_options
from maskmesh.cli.run import run, verbose_option
from maskmesh.client.async_client import AsyncClient

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.option("--images", type=_FOLDER, help="Folder of images, of the frames of a clip, or of such folders.")
@click.option("--masks", type=_FOLDER, help="Folder of true masks with the same names.")
@click.option("--concept", default="", help="Phrase that prompts instead of clicks and boxes (SAM 3).")
@click.option(
    "--video",
    is_flag=True,
    help="The images of a folder are the frames of one clip, in order of their names.",
)
@click.option(
    "--prompt",
    type=click.Choice(["click", "box", "mask"]),
    default="click",
    show_default=True,
    help="How objects are prompted on the first frame of a clip.",
)
@click.option(
    "--clicks",
    type=click.IntRange(1, 20),
    default=1,
    show_default=True,
    help="Clicks on each object of an image; all but the first correct the mask.",
)
@click.option(
    "--erase",
    is_flag=True,
    help="Erase holes in the clip: moving shapes of the masks, or without --masks a box that stays.",
)
@click.option(
    "--quality",
    type=click.Choice(["draft", "balanced", "high"]),
    default="high",
    show_default=True,
    help="Speed against quality of --erase.",
)
@click.option("--points", is_flag=True, help="Follow points on clips that are drawn with known motion.")
@click.option("--point-model", default="lucas-kanade", show_default=True, help="Model of --points.")
@click.option(
    "--point-checkpoint",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Checkpoint of the model of --points.",
)
@click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="JSON file for scores."
)
@gateway_options
@mesh_options
@record_options
@verbose_option
def evaluate(
    *,
    images: Path | None,
    masks: Path | None,
    concept: str,
    video: bool,
    prompt: Any,
    clicks: int,
    erase: bool,
    quality: Any,
    points: bool,
    point_model: str,
    point_checkpoint: Path | None,
    json_path: Path | None,
    gateway: Gateway,
    records: RecordOptions,
    **options: Any,
) -> None:
    """Compare masks with true ones: IoU of images from clicks and a box, J and F of clips.

    With --concept, the objects that a phrase finds are matched with the true ones: IoU, precision and recall.

    With --erase, holes are painted into a clip and erased, and what fills them is compared with the truth.
    With --points, points are followed on clips that are drawn, so that their true paths are known.

    The pixels of a true mask are object numbers, in a palette or in grey of 8 or 16 bits; black and white is
    one object. A folder of folders has one set or clip in each: DAVIS' JPEGImages/480p and
    Annotations/480p, or NAME/images (or NAME/frames) and NAME/masks.
    """
    if sum((erase, points, video, bool(concept))) > 1 and not (video and concept):
        raise click.UsageError("--erase, --points, --video and --concept exclude one another")
    if (erase or points) and records.folder is not None:
        raise click.UsageError("--records is not for --erase and --points")
    if points and (images is not None or masks is not None):
        raise click.UsageError("--points draws its own clips: it takes no --images and --masks")
    if not points and (images is None or (masks is None and not erase)):
        raise click.UsageError("--images and --masks are needed, or --images and --erase, or --points")
    if prompt != "click" and (not video or concept):
        raise click.UsageError("--prompt is for --video without --concept")
    if clicks > 1 and (video or concept or erase or points):
        raise click.UsageError("--clicks is for images")
    folders = [folder for folder in (images, masks) if folder is not None]
    check_outputs([path for folder in folders for path in folder.rglob("*")], {"--json": json_path})
    try:
        # Imported here, because only this command needs SciPy and others, which are an extra.
        from maskmesh.cli.evaluate.folder import EvaluationOptions, evaluate_folder
        from maskmesh.cli.evaluate.views import evaluate_drawn_points, evaluate_erased_clip
    except ImportError as error:
        raise click.ClickException(f"{error}; pip install 'maskmesh[evaluate]'") from error

    async def work(client: AsyncClient) -> None:
        if points:
            await evaluate_drawn_points(client, json_path)
        elif erase and images is not None:
            await evaluate_erased_clip(client, images, masks, quality, json_path)
        elif images is not None and masks is not None:
            await evaluate_folder(
                client, images, masks, EvaluationOptions(video, concept, clicks, prompt, json_path, records)
            )

    flags = point_flags(point_model, point_checkpoint)
    # A hole is a prompt on every frame.
    limit = ["--max-prompted-frames", "100000"] if erase else []
    mesh = records.mesh_options(with_flags(options, {"encoder": flags, "tracker": [*flags, *limit]}))
    run(with_gateway(work, gateway, mesh))
