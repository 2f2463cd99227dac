"""The command ``maskmesh tune``."""

import json
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from maskmesh.cli.media.outputs import check_outputs
from maskmesh.cli.mesh.local_mesh import MeshOptions
from maskmesh.cli.mesh.mesh_options import video_length
from maskmesh.cli.mesh.presets import PRESET_NAMES, PresetName, needed_bytes, plan, preset
from maskmesh.cli.mesh.resources import resources
from maskmesh.cli.prompt_options import PromptCommand, PromptsByObject
from maskmesh.cli.run import console, run, say, verbose_option
from maskmesh.cli.tune.measure import Material, Measured, agreement, measure
from maskmesh.scheduling.process_usage import processor
from maskmesh.types import Prompt

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(cls=PromptCommand)
@click.argument("source", metavar="[CLIP]", type=_FILE, required=False)
@click.option("--model", default="micro", show_default=True, help="Preset of the model.")
@click.option("--checkpoint", type=_FILE, help="Checkpoint of the whole model.")
@click.option("--device", default="cpu", show_default=True, help="Torch device.")
@click.option(
    "--max-frames", type=click.IntRange(6), default=24, show_default=True, help="Frames that are measured."
)
@click.option("--all", "measures_all", is_flag=True, help="Measure all presets, not only the proposed one.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="JSON file.")
@verbose_option
def tune(
    *,
    source: Path | None,
    prompts: PromptsByObject,
    model: str,
    checkpoint: Path | None,
    device: str,
    max_frames: int,
    measures_all: bool,
    json_path: Path | None,
) -> None:
    """Propose settings for this machine from its memory, cores and device, and measure them for seconds.

    With CLIP and its prompts the proposal is for that video, and masks are those of its objects; without it,
    drawn frames are tracked:

        maskmesh tune clip.mp4 --point 480,270 --model sam2.1-tiny --all

    --all measures every preset, with the agreement of its masks with those of high.
    """
    if source is not None and not prompts:
        raise click.UsageError("CLIP needs a --point or --box")
    if any(frame for _, frame in prompts):
        raise click.UsageError("prompts are on the first frame")
    check_outputs([source] if source else [], {"--json": json_path})
    try:
        made = plan(model, resources(device), num_frames=video_length(source))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    say(f"proposed: --preset {made.settings.name}; {'; '.join(made.reasons)}")
    names: list[PresetName] = list(PRESET_NAMES) if measures_all else ["high", made.settings.name]
    names = list(dict.fromkeys(names))
    by_object = {obj: Prompt(p.points, p.box) for (obj, _), p in prompts.items()}
    material = Material(source, by_object, max_frames) if source else Material.drawn(max_frames)

    async def work() -> None:
        found: dict[PresetName, Measured] = {}
        for name in names:
            settings = preset(model, name)
            with console.status(f"measuring {name}"):
                options = MeshOptions(
                    model=model,
                    checkpoint=checkpoint,
                    device=device,
                    image_size=settings.image_size,
                    dtype=settings.dtype,
                    flags=settings.flags(),
                    environment={"MASKMESH_TRACE_DIR": ""},
                )
                found[name] = await measure(options, material)
        _print(model, found)
        if json_path is not None:
            json_path.write_text(json.dumps(_json(model, found, made.settings.name), indent=2) + "\n")

    run(work())


def _print(model: str, found: dict[PresetName, Measured]) -> None:
    table = Table(box=box.SIMPLE_HEAD, title=f"{model} on {processor()}", title_justify="left")
    for heading in ("preset", "size", "frames/s", "click", "encoder", "tracker", "IoU with high"):
        table.add_column(heading, justify="left" if heading == "preset" else "right", no_wrap=True)
    for name, measured in found.items():
        settings = preset(model, name)
        table.add_row(
            name,
            f"{settings.image_size}",
            f"{measured.frames_per_second:.2f}",
            f"{measured.first_click * 1000:.0f} ms",
            f"{measured.encoder_bytes / 2**20:.0f} MiB",
            f"{measured.tracker_bytes / 2**20:.0f} MiB",
            f"{agreement(measured, found['high']):.3f}",
        )
    Console(highlight=False, width=100).print(table)


def _json(model: str, found: dict[PresetName, Measured], proposed: PresetName) -> dict[str, Any]:
    return {
        "model": model,
        "processor": processor(),
        "proposed": proposed,
        "presets": {
            name: {
                "image_size": preset(model, name).image_size,
                "frames_per_second": round(measured.frames_per_second, 3),
                "first_click_s": round(measured.first_click, 4),
                "encoder_bytes": measured.encoder_bytes,
                "tracker_bytes": measured.tracker_bytes,
                "estimated_bytes": needed_bytes(model, preset(model, name)),
                "iou_with_high": round(agreement(measured, found["high"]), 4),
            }
            for name, measured in found.items()
        },
    }
