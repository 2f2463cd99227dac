"""The command ``maskmesh erase``."""

from pathlib import Path
from typing import Any

import click

from maskmesh.cli.erase.erase import EraseJob, check_job, erase
from maskmesh.cli.media.source_frames import SourcePath
from maskmesh.cli.mesh.gateway_options import Gateway, gateway_options, with_gateway
from maskmesh.cli.mesh.local_mesh import MeshOptions
from maskmesh.cli.mesh.mesh_options import mesh_options, with_flags
from maskmesh.cli.prompt_options import ConceptCommand, FrameConcept, PromptsByObject
from maskmesh.cli.run import run, verbose_option
from maskmesh.concepts import ConceptOptions
from maskmesh.erasing import EraseOptions

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(name="erase", cls=ConceptCommand)
@click.argument("source", type=SourcePath())
@mesh_options
@gateway_options
@click.option("-o", "--output", type=_FILE, required=True, help="File for the video without the objects.")
@click.option("--max-frames", type=click.IntRange(0), default=0, help="Number of frames; 0 means all.")
@click.option(
    "--quality",
    type=click.Choice(["draft", "balanced", "high"]),
    default="balanced",
    show_default=True,
    help="Speed against quality; high reads 10 frames ahead.",
)
@click.option("--dilation", type=click.IntRange(0, 128), help="Pixels by which masks are grown.")
@click.option("--feather", type=click.IntRange(0, 64), help="Width of the transition at the edge in pixels.")
@click.option("--look-ahead", type=click.IntRange(0, 30), help="Number of later frames that are read.")
@click.option(
    "--fill",
    type=click.Choice(["auto", "neighbours", "model"]),
    default="auto",
    show_default=True,
    help="What fills pixels that no frame has shown; auto is the model if there is one.",
)
@click.option(
    "--erase-model",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Inpainting model (ONNX) for pixels that no frame has shown.",
)
@click.option("--report", type=_FILE, help="File for what was erased on each frame (CSV).")
@verbose_option
def erase_command(
    *,
    source: Path,
    prompts: PromptsByObject,
    concepts: list[FrameConcept],
    concept_options: ConceptOptions,
    gateway: Gateway,
    output: Path,
    max_frames: int,
    quality: Any,
    dilation: int | None,
    feather: int | None,
    look_ahead: int | None,
    fill: Any,
    erase_model: Path | None,
    report: Path | None,
    **options: Any,
) -> None:
    """Remove objects from a video, an image, or a folder of images that are the frames of a video:

    \b
    maskmesh erase clip.mp4 --point 480,270 -o without.mp4
    maskmesh erase clip.mp4 --box 100,80,300,240 --quality high -o without.mp4

    What the objects hide is taken from frames that show it.  Shadows and reflections stay, unless they are
    prompted as objects too.  The output has no sound.
    """
    if not prompts and not concepts:
        raise click.UsageError("at least one --point, --box or --concept is needed")
    job = EraseJob(
        source,
        prompts,
        concepts,
        concept_options,
        max_frames,
        EraseOptions(preset=quality, dilation=dilation, feather=feather, look_ahead=look_ahead, fill=fill),
        output,
        report,
    )
    check_job(job)
    flags = [] if erase_model is None else ["--erase-model", str(erase_model.absolute())]
    mesh = MeshOptions(**with_flags(options, {"gateway": flags}))
    run(with_gateway(lambda client: erase(job, client), gateway, mesh), trace="erase")
