"""The command ``maskmesh batch``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from maskmesh.cli.batch.items import Item, find_items, names
from maskmesh.cli.batch.prompts_file import FramePrompt, ItemPrompts, PromptsFile, PromptsFileError
from maskmesh.cli.batch.runner import FAILURES_NAME, BatchJob, run_batch
from maskmesh.cli.mesh.gateway_options import Gateway, gateway_options, with_gateway
from maskmesh.cli.mesh.mesh_options import mesh_options
from maskmesh.cli.prompt_options import ConceptCommand, FrameConcept, PromptsByObject
from maskmesh.cli.records.options import RecordOptions, record_options
from maskmesh.cli.run import run, verbose_option, warn
from maskmesh.concepts import ConceptOptions
from maskmesh.types import Prompt

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command(name="batch", cls=ConceptCommand)
@click.argument("folder", type=_FOLDER)
@mesh_options
@gateway_options
@click.option(
    "--prompts",
    "prompts_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV or JSON file with the prompts of each file.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the results; by default they are written beside their sources.",
)
@click.option("--overlay", "overlays", is_flag=True, help="Also write overlays.")
@click.option("--max-frames", type=click.IntRange(min=0), default=0, help="Frames of a video; 0 means all.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 64),
    default=2,
    show_default=True,
    help="Number of files that are processed at once.",
)
@click.option("--again", is_flag=True, help="Also process files that have results.")
@record_options
@verbose_option
def batch(
    *,
    folder: Path,
    prompts: PromptsByObject,
    concepts: list[FrameConcept],
    concept_options: ConceptOptions,
    prompts_path: Path | None,
    gateway: Gateway,
    output: Path | None,
    overlays: bool,
    max_frames: int,
    concurrency: int,
    again: bool,
    records: RecordOptions,
    **options: Any,
) -> None:
    """Segment all videos and images in a folder and its subfolders.

    --point, --box and --concept prompt every file; --prompts is a CSV or JSON file with the columns file,
    frame, object, points, box, concept and concept_boxes, where file may be a pattern:

        maskmesh batch shop-floor --model sam3 --checkpoint sam3.pt --concept "yellow helmet" -o found

    Each file gets NAME.masks.json when it is complete. Files that have results are left out, so the same
    command goes on after an interruption and tries failures again; failures are listed in
    batch-failures.json. The exit status is 0 if all files have results, and 1 if one failed.
    """
    for_all = ItemPrompts(
        [FramePrompt(obj, frame, Prompt(p.points, p.box)) for (obj, frame), p in prompts.items()],
        list(concepts),
    )
    if not for_all and prompts_path is None:
        raise click.UsageError("at least one --point, --box or --concept, or --prompts is needed")
    items = find_items(folder, output, overlays=overlays)
    if not items:
        raise click.UsageError(f"{folder} has no videos and no images")
    prompted = _prompted(items, for_all, prompts_path)
    remaining = [(item, said) for item, said in prompted if again or not item.is_done]
    target = folder if output is None else output
    target.mkdir(parents=True, exist_ok=True)
    job = BatchJob(
        items=remaining,
        num_done_before=len(prompted) - len(remaining),
        num_unprompted=len(items) - len(prompted),
        failures_path=target / FAILURES_NAME,
        concurrency=concurrency,
        max_frames=max_frames,
        concept_options=concept_options,
        records=records,
    )
    run(with_gateway(lambda client: run_batch(job, client), gateway, records.mesh_options(options)))


def _prompted(
    items: Sequence[Item], for_all: ItemPrompts, prompts_path: Path | None
) -> list[tuple[Item, ItemPrompts]]:
    """The items that have prompts.  Raises UsageError if the file of prompts cannot be used."""
    if prompts_path is None:
        return [(item, for_all) for item in items]
    try:
        file = PromptsFile.read(prompts_path)
    except PromptsFileError as error:
        raise click.UsageError(f"--prompts {prompts_path}: {error}") from error
    except UnicodeDecodeError as error:
        raise click.UsageError(f"--prompts {prompts_path}: the file is not UTF-8") from error
    for row in file.unmatched(names(items)):
        warn(f"--prompts {prompts_path}, {row}: there is no such file")
    prompted = []
    for item in items:
        own = file.of(item.name)
        said = ItemPrompts([*for_all.prompts, *own.prompts], [*for_all.concepts, *own.concepts])
        if said:
            prompted.append((item, said))
    if not prompted:
        raise click.UsageError(f"--prompts {prompts_path} names no file of the folder")
    return prompted
