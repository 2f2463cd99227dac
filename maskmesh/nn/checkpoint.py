"""Checkpoints of the whole model: reading, digest, and the comparison with the keys of a preset.

Each service loads its half of a checkpoint and checks all of it.  ``tools/write_checkpoint_keys.py`` writes
the lists of keys beside this file from the models; ``tools/train_micro`` writes the weights.
"""

import hashlib
import json
import pickle
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

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


def check_keys(preset: str, shapes: Mapping[str, Sequence[int]]) -> None:
    """Compare a checkpoint's keys and shapes with the model's.

    Raises CheckpointError that names missing and unexpected keys, and keys of another shape.
    """
    expected = expected_keys(preset)
    problems = []
    if missing := sorted(expected.keys() - shapes.keys()):
        problems.append(f"missing: {_listed(missing)}")
    if unexpected := sorted(shapes.keys() - expected.keys()):
        problems.append(f"unexpected: {_listed(unexpected)}")
    misshapen = [
        f"{key} is {list(shapes[key])}, not {list(shape)}"
        for key, shape in sorted(expected.items())
        if key in shapes and tuple(shapes[key]) != shape
    ]
    if misshapen:
        problems.append(f"of another shape: {_listed(misshapen)}")
    if problems:
        raise CheckpointError(f"the checkpoint is not one of {preset}; " + "; ".join(problems))


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read a whole checkpoint onto the host; no code in it is executed.

    Takes ``.safetensors`` files, and ``.pt`` files that hold ``{"model": state_dict}``.
    Raises ValueError if the file holds something else.
    """
    if path.suffix == ".safetensors":
        return load_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path.name} cannot be read without executing code in it") from error
    state = content.get("model") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f'{path.name} does not hold {{"model": state_dict}}')
    return state


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values: equal for equal weights in any container."""
    digest = hashlib.sha256()
    for key in sorted(state):
        value = state[key].contiguous()
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _listed(names: Sequence[str]) -> str:
    num_unnamed = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {num_unnamed} more" if num_unnamed > 0 else "")
