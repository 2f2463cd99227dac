"""The command ``maskmesh segment``."""

from pathlib import Path
from typing import Any

import click

from maskmesh.cli.media.source_frames import SourcePath
from maskmesh.cli.mesh.gateway_options import Gateway, gateway_options, with_gateway
from maskmesh.cli.mesh.mesh_options import mesh_options
from maskmesh.cli.prompt_options import ConceptCommand, FrameConcept, PromptsByObject
from maskmesh.cli.records.options import RecordOptions, record_options
from maskmesh.cli.run import run, verbose_option
from maskmesh.cli.segment.concepts import ConceptJob, segment_concepts
from maskmesh.cli.segment.segment import Job, check_job, segment
from maskmesh.client.async_client import AsyncClient
from maskmesh.concepts import ConceptOptions

_FILE = click.Path(dir_okay=False, path_type=Path)
_FRAMES = click.IntRange(min=0)


@click.command(name="segment", cls=ConceptCommand)
@click.argument("source", type=SourcePath())
@mesh_options
@gateway_options
@click.option("--max-frames", type=_FRAMES, default=0, help="Number of frames; 0 means all.")
@click.option("--multimask", is_flag=True, help="Three alternative masks for each object (images only).")
@click.option("-o", "--output", type=_FILE, help="File for the overlay.")
@click.option("--masks", type=_FILE, help="File for the masks (COCO RLE).")
@click.option(
    "--truth",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of true masks in the format of --masks, to compare with (videos only).",
)
@record_options
@verbose_option
def segment_command(
    *,
    source: Path,
    prompts: PromptsByObject,
    concepts: list[FrameConcept],
    concept_options: ConceptOptions,
    gateway: Gateway,
    max_frames: int,
    multimask: bool,
    output: Path | None,
    masks: Path | None,
    truth: Path | None,
    records: RecordOptions,
    **options: Any,
) -> None:
    """Segment a video, an image, or a folder of images that are the frames of a video.

    Each prompt belongs to the --object and --frame before it (by default object 1 and frame 0):

        maskmesh segment clip.mp4 --point 480,270 --object 2 --frame 10 --box 100,80,300,240 -o out.mp4

    With SAM 3, concepts find all objects of a kind, by words, by boxes around examples, or both, and follow
    them through a video:

        maskmesh segment clip.mp4 --model sam3 --checkpoint sam3.pt --concept "yellow school bus" -o out.mp4
    """
    if not prompts and not concepts:
        raise click.UsageError("at least one --point, --box or --concept is needed")
    job = Job(
        source, prompts, max_frames, multimask, output, masks, truth, concepts, concept_options, records
    )
    check_job(job)
    concept_job = ConceptJob(source, concepts, concept_options.score_threshold, output, masks, records)

    async def work(client: AsyncClient) -> None:
        if concepts and not job.is_video:
            await segment_concepts(concept_job, client)
        else:
            await segment(job, client)

    run(with_gateway(work, gateway, records.mesh_options(options)), trace="segment")
