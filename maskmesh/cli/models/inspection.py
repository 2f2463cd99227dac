"""What a checkpoint file holds; the one module of the command that needs torch."""

from dataclasses import dataclass
from pathlib import Path

import torch

from maskmesh.checkpoints.catalogue import OFFICIAL
from maskmesh.checkpoints.download import file_sha256
from maskmesh.nn.checkpoint import CheckpointError, list_presets, read_checkpoint, weights_digest
from maskmesh.nn.checkpoint_file import CheckpointFile


@dataclass(frozen=True, slots=True)
class FileInspection:
    """A checkpoint file."""

    num_bytes: int
    sha256: str
    preset: str
    """The preset that it fits; empty if it fits none."""
    problem: str
    """How it differs from the preset whose keys are the most similar; empty if it fits one."""
    parameters: int
    dtypes: tuple[str, ...]
    weights_digest: str
    """The digest in the model id, equal for equal weights in any container; empty without a preset."""
    num_not_finite: int
    """Number of tensors with values that are not finite."""

    @property
    def official(self) -> str:
        """The preset whose published file this is, byte for byte; empty if it is another file."""
        return next((name for name, each in OFFICIAL.items() if each.sha256 == self.sha256), "")


def inspect(path: Path) -> FileInspection:
    """Read a checkpoint file.  No code in it is executed.

    Raises ValueError if it holds no state, OSError if it cannot be read.
    """
    file = CheckpointFile(path)
    preset, problem = _preset_of(path, file)
    state = read_checkpoint(preset, path) if preset else file
    parameters, not_finite = 0, 0
    dtypes: set[str] = set()
    for name in state:
        value = state[name]
        parameters += value.numel()
        dtypes.add(str(value.dtype).removeprefix("torch."))
        not_finite += value.is_floating_point() and not bool(torch.isfinite(value).all())
    return FileInspection(
        num_bytes=path.stat().st_size,
        sha256=file_sha256(path),
        preset=preset,
        problem=problem,
        parameters=parameters,
        dtypes=tuple(sorted(dtypes)),
        weights_digest=weights_digest(state) if preset else "",
        num_not_finite=not_finite,
    )


def _preset_of(path: Path, file: CheckpointFile) -> tuple[str, str]:
    """The preset that a file fits, or how it differs from the nearest one."""
    nearest: tuple[int, str] | None = None
    for preset, keys in list_presets().items():
        try:
            read_checkpoint(preset, path)
        except CheckpointError as error:
            common = sum(file.shapes.get(key) == shape for key, shape in keys.items())
            if nearest is None or common > nearest[0]:
                nearest = (common, str(error))
        else:
            return preset, ""
    return "", nearest[1] if nearest is not None and nearest[0] else "its keys are those of no known model"
