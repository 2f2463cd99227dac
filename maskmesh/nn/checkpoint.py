"""Checkpoints of the whole model: reading, digest, and the comparison with the keys of a preset.

Each service loads its half of a checkpoint and checks all of it.  ``tools/write_checkpoint_keys.py`` writes
the lists of keys beside this file from the models; ``tools/train_micro`` writes the weights.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor

from maskmesh.nn import sam3_layouts
from maskmesh.nn.checkpoint_file import CheckpointFile
from maskmesh.nn.sam3_layouts import Layout

_PACKAGE = "maskmesh.nn"

# Keys that an error message names.
_MAX_NAMED = 5


class CheckpointError(ValueError):
    """A checkpoint does not fit the model; the message names keys."""


def bundled_weights(preset: str) -> Path | None:
    """The checkpoint of a preset that is part of this package, or None."""
    path = Path(str(files(_PACKAGE) / "weights" / f"{preset}.safetensors"))
    return path if path.is_file() else None


def expected_keys(preset: str) -> dict[str, tuple[int, ...]]:
    """Every key and shape of the whole model ``preset``.  Raises CheckpointError if it is unknown."""
    resource = files(_PACKAGE) / "checkpoint_keys" / f"{preset}.json"
    if not resource.is_file():
        raise CheckpointError(f"there is no model {preset!r}")
    return {key: tuple(shape) for key, shape in json.loads(resource.read_text()).items()}


def list_presets() -> dict[str, dict[str, tuple[int, ...]]]:
    """Keys and shapes of every preset, by name."""
    names = (entry.name.removesuffix(".json") for entry in (files(_PACKAGE) / "checkpoint_keys").iterdir())
    return {name: expected_keys(name) for name in sorted(names)}


def check_keys(preset: str, shapes: Mapping[str, Sequence[int]]) -> None:
    """Compare a checkpoint's keys and shapes with the model's.

    Raises CheckpointError that names missing and unexpected keys, and keys of another shape.
    """
    _raise_differences(preset, _differences(expected_keys(preset), shapes))


def read_checkpoint(preset: str, path: Path) -> Mapping[str, Tensor]:
    """The tensors of a checkpoint of ``preset``, which are read when they are accessed.

    Raises CheckpointError if its keys are not those of the preset, ValueError if the file is no checkpoint,
    and OSError.
    """
    file = CheckpointFile(path)
    expected = expected_keys(preset)
    if not sam3_layouts.has_layouts(expected):
        check_keys(preset, file.shapes)
        return file
    layout = sam3_layouts.layout_of(file)
    if layout is Layout.SAM3_1:
        raise CheckpointError(f"{path.name} is a checkpoint of SAM 3.1, not of {preset}")
    sources = sam3_layouts.sources(layout, expected)
    problems = _differences(
        {name: shape for source in sources.values() for name, shape in source.shapes.items()},
        file.shapes,
        ignored=sam3_layouts.unused(layout, expected),
    )
    _raise_differences(preset, problems)
    return sam3_layouts.ConvertedState(file, sources)


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values: equal for equal weights in any container."""
    digest = hashlib.sha256()
    for key in sorted(state):
        value = state[key].contiguous()
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _differences(
    expected: Mapping[str, Sequence[int]],
    shapes: Mapping[str, Sequence[int]],
    *,
    ignored: Collection[str] = (),
) -> list[str]:
    problems = []
    if missing := sorted(expected.keys() - shapes.keys()):
        problems.append(f"missing: {_listed(missing)}")
    if unexpected := sorted(shapes.keys() - expected.keys() - set(ignored)):
        problems.append(f"unexpected: {_listed(unexpected)}")
    misshapen = [
        f"{key} is {list(shapes[key])}, not {list(shape)}"
        for key, shape in sorted(expected.items())
        if key in shapes and tuple(shapes[key]) != tuple(shape)
    ]
    if misshapen:
        problems.append(f"of another shape: {_listed(misshapen)}")
    return problems


def _raise_differences(preset: str, problems: Sequence[str]) -> None:
    if problems:
        raise CheckpointError(f"the checkpoint is not one of {preset}; " + "; ".join(problems))


def _listed(names: Sequence[str]) -> str:
    num_unnamed = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {num_unnamed} more" if num_unnamed > 0 else "")
