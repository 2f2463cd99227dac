"""The command ``maskmesh tune``."""

import json
from pathlib import Path
from typing import Any, TypeAlias

import click
import grpc
from rich import box
from rich.console import Console
from rich.table import Table

from maskmesh.cli.mesh.local_mesh import MeshError, MeshOptions
from maskmesh.cli.mesh.mesh_options import video_length
from maskmesh.cli.mesh.presets import PRESET_NAMES, PresetName, needed_bytes, plan, preset
from maskmesh.cli.mesh.resources import resources
from maskmesh.cli.prompt_options import PromptCommand, PromptsByObject
from maskmesh.cli.run import console, describe, run, say, verbose_option, warn
from maskmesh.cli.tune.measure import Material, Measured, agreement, measure
from maskmesh.errors import MaskmeshError
from maskmesh.scheduling.process_usage import processor
from maskmesh.types import Prompt

Found: TypeAlias = dict[PresetName, Measured | None]
"""The figures of each preset; None for one that failed."""

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
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
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
    as_json: bool,
) -> None:
    """Propose settings for this machine from its memory, cores and device, and measure them for seconds.

    With CLIP and its prompts the proposal is for that video, and masks are those of its objects; without it,
    drawn frames are tracked:

        maskmesh tune clip.mp4 --point 480,270 --model sam2.1-tiny --all

    --all measures every preset, with the agreement of its masks with those of high.
    """
    if source is not None and not prompts:
        raise click.UsageError("CLIP needs a --point or --box")
    if source is None and prompts:
        raise click.UsageError("--point and --box need the CLIP that they are on")
    if any(frame for _, frame in prompts):
        raise click.UsageError("prompts are on the first frame")
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
        found: dict[PresetName, Measured | None] = {}
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
                try:
                    found[name] = await measure(options, material)
                except (MeshError, MaskmeshError, grpc.RpcError) as error:
                    # One that does not fit the memory is a finding, too.
                    found[name] = None
                    warn(f"{name}: {describe(error)}")
        if as_json:
            click.echo(json.dumps(_json(model, found, made.settings.name), indent=2))
        else:
            _print(model, found)
        if None in found.values():
            raise click.ClickException("not every preset could be measured")

    run(work())


def _print(model: str, found: Found) -> None:
    table = Table(box=box.SIMPLE_HEAD, title=f"{model} on {processor()}", title_justify="left")
    for heading in ("preset", "size", "frames/s", "click", "encoder", "tracker", "IoU with high"):
        table.add_column(heading, justify="left" if heading == "preset" else "right", no_wrap=True)
    for name, measured in found.items():
        settings = preset(model, name)
        if measured is None:
            table.add_row(name, f"{settings.image_size}", "failed")
            continue
        table.add_row(
            name,
            f"{settings.image_size}",
            f"{measured.frames_per_second:.2f}",
            f"{measured.first_click * 1000:.0f} ms",
            f"{measured.encoder_bytes / 2**20:.0f} MiB",
            f"{measured.tracker_bytes / 2**20:.0f} MiB",
            "" if (iou := _iou_with_high(measured, found)) is None else f"{iou:.3f}",
        )
    Console(highlight=False, width=100).print(table)


def _iou_with_high(measured: Measured, found: Found) -> float | None:
    high = found["high"]
    return None if high is None else agreement(measured, high)


def _json(model: str, found: Found, proposed: PresetName) -> dict[str, Any]:
    return {
        "model": model,
        "processor": processor(),
        "proposed": proposed,
        "presets": {
            name: None
            if measured is None
            else {
                "image_size": preset(model, name).image_size,
                "frames_per_second": round(measured.frames_per_second, 3),
                "first_click_s": round(measured.first_click, 4),
                "encoder_bytes": measured.encoder_bytes,
                "tracker_bytes": measured.tracker_bytes,
                "estimated_bytes": needed_bytes(model, preset(model, name)),
                "iou_with_high": _iou_with_high(measured, found),
            }
            for name, measured in found.items()
        },
    }
