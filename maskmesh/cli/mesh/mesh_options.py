"""Options of commands that may start a mesh."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import click
from click.core import ParameterSource

from maskmesh.cli.mesh.presets import PRESET_NAMES, PresetSettings, plan, preset
from maskmesh.cli.mesh.resources import resources
from maskmesh.cli.run import say, warn

AUTO = "auto"

_OPTIONS = (
    click.option("--model", default="micro", show_default=True, help="Preset of the model."),
    click.option(
        "--checkpoint",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Checkpoint of the whole model (.pt or .safetensors).",
    ),
    click.option(
        "--vocabulary",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Vocabulary of SAM 3 (tokenizer.json, or CLIP's merges); by default beside the checkpoint.",
    ),
    click.option(
        "--preset",
        "preset_name",
        type=click.Choice([*PRESET_NAMES, AUTO]),
        help="Quality and speed; auto chooses by memory, cores and the length of the video, and says why.",
    ),
    click.option("--image-size", type=int, help="Side of the model's input; by default the preset's."),
    click.option("--device", default="cpu", show_default=True, help="Torch device."),
    click.option(
        "--dtype",
        type=click.Choice(["auto", "float32", "bfloat16"]),
        default="auto",
        show_default=True,
        help="Type of weights and activations; auto is bfloat16 if the device computes faster in it.",
    ),
    click.option(
        "--threads", default=0, help="Threads of each encoder and tracker; 0 lets the services choose."
    ),
    click.option("--max-batch", default=0, help="Largest batch; 0 lets the services choose."),
)


def mesh_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options; a command receives them by the names of
    :class:`maskmesh.cli.mesh.local_mesh.MeshOptions`.
    """

    @functools.wraps(command)
    def with_preset(*, preset_name: str | None, **options: Any) -> None:
        if preset_name is not None:
            # With --endpoint, the options of the gateway refuse it.
            explicit = click.get_current_context().get_parameter_source("dtype")
            has_dtype = explicit is ParameterSource.COMMANDLINE
            settings = _settings(preset_name, options, has_dtype=has_dtype)
            if options["image_size"] is None:
                options["image_size"] = settings.image_size
            if not has_dtype:
                options["dtype"] = settings.dtype
            options["flags"] = settings.flags()
        command(**options)

    decorated: Callable[..., None] = with_preset
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def with_flags(options: dict[str, Any], flags: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The options of a command's mesh, with more flags by kind of service."""
    earlier = options.get("flags", {})
    kinds = {*earlier, *flags}
    merged = {kind: [*earlier.get(kind, []), *flags.get(kind, [])] for kind in kinds}
    return {**options, "flags": merged}


def point_flags(model: str, checkpoint: Path | None) -> list[str]:
    """The flags of encoder and tracker for a model for points."""
    flags = ["--point-model", model]
    return flags if checkpoint is None else [*flags, "--point-checkpoint", str(checkpoint.absolute())]


def _settings(name: str, options: dict[str, Any], *, has_dtype: bool) -> PresetSettings:
    """The settings of a preset, or those that fit this machine.  Raises UsageError."""
    model, device = options["model"], options["device"]
    try:
        if name != AUTO:
            return preset(model, name)  # type: ignore[arg-type]
        length, wanted = video_length(options.get("source")), options.get("max_frames") or 0
        made = plan(
            model,
            resources(device),
            num_frames=min(length, wanted) if length and wanted else length or wanted,
            image_size=options["image_size"],
            dtype=options["dtype"] if has_dtype else None,
        )
    except ValueError as error:
        raise click.UsageError(f"--preset {name}: {error}") from error
    settings = made.settings
    size = f"{settings.image_size} x {settings.image_size}"
    say(f"preset auto: {settings.name}, {size}; {'; '.join(made.reasons)}")
    if not made.fits:
        warn(f"{model} may run out of memory here: choose a smaller model, or grant more")
    return settings


def video_length(source: object) -> int:
    """The number of frames that a video says it has; 0 if it does not say, or is none."""
    if not isinstance(source, Path) or not source.is_file():
        return 0
    try:
        with av.open(str(source), metadata_errors="replace") as container:
            return container.streams.video[0].frames
    except (av.FFmpegError, IndexError, OSError):
        return 0
