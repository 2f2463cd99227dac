"""Options of commands that may start a mesh."""

from collections.abc import Callable
from pathlib import Path

import click

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
    """Add the options; their names are those of :class:`maskmesh.cli.mesh.local_mesh.MeshOptions`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
