"""Whole checkpoints: their names and shapes, and the weights that come with this package.

A service loads one half of a checkpoint and judges both.  The lists of keys beside this file are written by
``tools/write_checkpoint_keys.py`` from the models themselves; the weights by ``tools/train_micro``.
"""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

_SHOWN = 5


class CheckpointError(ValueError):
    """A checkpoint does not fit the model; the message names keys."""


def bundled_weights(preset: str) -> Path | None:
    """The checkpoint of a preset that this package brings along, or None."""
    path = Path(str(files("maskmesh") / "weights" / f"{preset}.safetensors"))
    return path if path.is_file() else None


def expected_keys(preset: str) -> dict[str, tuple[int, ...]]:
    """Every key and shape of the whole model ``preset``.  Raises CheckpointError if it is unknown."""
    resource = files("maskmesh") / "checkpoint_keys" / f"{preset}.json"
    if not resource.is_file():
        raise CheckpointError(f"there is no model {preset!r}")
    return {key: tuple(shape) for key, shape in json.loads(resource.read_text()).items()}


def check_keys(preset: str, shapes: Mapping[str, Sequence[int]]) -> None:
    """Compare a checkpoint's keys and shapes with the model's.

    Raises CheckpointError naming keys that are missing, foreign or misshapen.
    """
    expected = expected_keys(preset)
    problems = []
    if missing := sorted(expected.keys() - shapes.keys()):
        problems.append(f"missing: {_some(missing)}")
    if foreign := sorted(shapes.keys() - expected.keys()):
        problems.append(f"foreign: {_some(foreign)}")
    misshapen = [
        f"{key} is {list(shapes[key])}, not {list(shape)}"
        for key, shape in sorted(expected.items())
        if key in shapes and tuple(shapes[key]) != shape
    ]
    if misshapen:
        problems.append(f"misshapen: {_some(misshapen)}")
    if problems:
        raise CheckpointError(f"the checkpoint is not one of {preset}; " + "; ".join(problems))


def _some(names: Sequence[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
