"""Train the embedded model: first on single images, then on clips.

    python -m tools.train_micro images --data ECSSD --sets SETS --out RUN
    python -m tools.train_micro clips --data ECSSD --sets SETS --out RUN
    python -m tools.train_micro interpolate FIRST SECOND --share 0.5 -o MIXED
    python -m tools.train_micro evaluate --data ECSSD --checkpoint RUN/clips-long/micro.safetensors

An interrupted command resumes from its last checkpoint when it is run again.
"""

import asyncio
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
import cv2
import torch
from rich.console import Console

from maskmesh.evaluation.table import LEGEND, make_table
from tools.train_micro.clips import Clips, ClipsAndStills, clips_and_stills_loss, clips_loss
from tools.train_micro.data.material import Material
from tools.train_micro.data.sources import VALIDATION_NAMES, Pool, load_sources
from tools.train_micro.evaluate import evaluate_all
from tools.train_micro.images import Stills, images_loss
from tools.train_micro.micro import Micro, start_from
from tools.train_micro.micro import interpolate as write_interpolated
from tools.train_micro.plans import CLIP_PLANS, IMAGE_PLANS, with_steps
from tools.train_micro.scenes.compose import Composer
from tools.train_micro.scenes.seeds import STILLS, TRAINING_STREAMS, VALIDATION_STREAM
from tools.train_micro.scenes.suites import CLIPS
from tools.train_micro.trainer import Figures, Trainer
from tools.train_micro.validate import validate_clips, validate_images, validate_real_clips

VALIDATION_LENGTH = 8


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@click.group(help=__doc__)
def main() -> None:
    """Train and evaluate the embedded model."""
    cv2.setNumThreads(0)  # torch and the workers use the cores


_DATA = click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True),
    required=True,
    help="Folder with ECSSD.",
)
_SETS = click.option(
    "--sets", type=click.Path(path_type=Path, exists=True), help="Folder with images and clips of other sets."
)
_OPEN = click.option(
    "--open-data", is_flag=True, help="Train only on sets whose terms permit any use; needs --sets."
)
_OUT = click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the run.")
_SEED = click.option("--seed", default=0, show_default=True, help="Equal seeds train equal models.")
_WORKERS = click.option("--workers", default=2, show_default=True, help="Processes that compose scenes.")


_START = click.option(
    "--start",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Exported weights to train further; only the last plan of the phase runs.",
)
_STEPS = click.option("--steps", type=click.IntRange(min=1), help="Steps of the last plan, if others.")


@main.command()
@_DATA
@_SETS
@_OPEN
@_OUT
@_SEED
@_WORKERS
@_START
@_STEPS
def images(
    *,
    data: Path,
    sets: Path | None,
    open_data: bool,
    out: Path,
    seed: int,
    workers: int,
    start: Path | None,
    steps: int | None,
) -> None:
    """Run the first phase: clicks, boxes and corrections on single images."""
    torch.manual_seed(seed)
    material = Material.read(data, sets, only_open=open_data)
    training, held_out = Pool(material.training), material.held_out
    state = None
    plans = with_steps(IMAGE_PLANS, steps)
    for plan in plans if start is None else plans[-1:]:
        model = Micro(plan.image_size)
        composer = Composer(training, plan.image_size, composed=plan.composed, clips=material.clips)
        stills = Stills(composer, (seed, TRAINING_STREAMS[plan.name]))
        if state is not None:
            model.load_state_dict(state)
        elif start is not None:
            start_from(model, start, torch.stack([stills[index]["frame"] for index in range(plan.batch)]))
        trainer = Trainer(plan, model, out / plan.name, seed=seed, device=_device())
        validate = partial(validate_images, sources=held_out, device=trainer.device)
        trainer.run(stills, images_loss, validate, workers=workers)
        state = trainer.model.state_dict()


@main.command()
@_DATA
@_SETS
@_OPEN
@_OUT
@_SEED
@_WORKERS
@_START
@_STEPS
@click.option("--frozen-encoder", is_flag=True, help="Train only what follows the image encoder: faster.")
def clips(
    *,
    data: Path,
    sets: Path | None,
    open_data: bool,
    out: Path,
    seed: int,
    workers: int,
    start: Path | None,
    steps: int | None,
    frozen_encoder: bool,
) -> None:
    """Run the second phase: tracking objects through clips, from the weights of the first phase."""
    torch.manual_seed(seed)
    material = Material.read(data, sets, only_open=open_data)
    training, unseen = Pool(material.training), Pool(load_sources(data, VALIDATION_NAMES))
    plans = [replace(plan, frozen_encoder=frozen_encoder) for plan in with_steps(CLIP_PLANS, steps)]
    state = None
    if start is None:
        try:
            state = Trainer.average_of(out / IMAGE_PLANS[-1].name)
        except (FileNotFoundError, ValueError) as error:
            raise click.ClickException(f"run the first phase before the second: {error}") from error
    for plan in plans if start is None else plans[-1:]:
        seeds = (seed, TRAINING_STREAMS[plan.name])
        composer = Composer(training, plan.image_size, clips=material.clips, encounters=plan.encounters)
        stills = Stills(composer, (*seeds, STILLS))
        model = Micro(plan.image_size)
        if state is not None:
            model.load_state_dict(state)
        elif start is not None:
            start_from(model, start, torch.stack([stills[index]["frame"] for index in range(16)]))
        trainer = Trainer(plan, model, out / plan.name, seed=seed, device=_device())
        validation = Clips(
            Composer(unseen, plan.image_size), (seed, VALIDATION_STREAM), (VALIDATION_LENGTH,), batch=1
        )

        def validate(average: Micro, validation: Clips = validation) -> Figures:
            found = validate_images(average, material.held_out, _device())
            found |= validate_clips(average, validation, _device())
            return found | validate_real_clips(average, material.held_out_clips, _device())

        scenes = Clips(composer, seeds, plan.lengths, batch=plan.batch)
        if plan.stills:
            loss = partial(clips_and_stills_loss, forgets=plan.forgets, unrolled=plan.unrolled)
            trainer.run(ClipsAndStills(scenes, stills), loss, validate, workers=workers)
        else:
            loss = partial(clips_loss, forgets=plan.forgets, unrolled=plan.unrolled)
            trainer.run(scenes, loss, validate, workers=workers)
        state = trainer.model.state_dict()


@main.command()
@click.argument("first", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("second", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--share", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Part of SECOND.")
@click.option(
    "-o", "out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The file to write."
)
def interpolate(first: Path, second: Path, share: float, out: Path) -> None:
    """Write weights between two exports, of which SECOND was trained further from FIRST."""
    write_interpolated(first, second, share, out)


@main.command()
@_DATA
@_SETS
@click.option("--checkpoint", type=click.Path(path_type=Path, exists=True), help="Weights to evaluate.")
@click.option("--endpoint", help="Endpoint of the gateway; if omitted, starts a local mesh.")
@click.option(
    "--clips", type=click.IntRange(min=1), default=CLIPS, show_default=True, help="Clips of each suite."
)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="File for the results.")
def evaluate(
    data: Path,
    sets: Path | None,
    checkpoint: Path | None,
    endpoint: str | None,
    clips: int,
    json_path: Path | None,
) -> None:
    """Compute the results of the model card through a mesh: held-out images and clips."""
    model_id, rows = asyncio.run(evaluate_all(data, sets, checkpoint, endpoint, clips))
    console = Console(width=130)
    console.print(make_table(rows, model_id))
    console.print(LEGEND)
    if json_path is not None:
        json_path.write_text(
            json.dumps({"model_id": model_id, "rows": [row.to_json() for row in rows]}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
