"""The tensors of a checkpoint file, read one at a time."""

import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

# A file is mapped into memory.  Its pages stay resident while the mapping exists, so the file is opened
# again after this many bytes.
_MAX_MAPPED_BYTES = 2**28


class CheckpointFile(Mapping[str, Tensor]):
    """A ``.safetensors`` file, or a ``.pt`` file that holds a state, alone or as ``{"model": state}``.

    No code in the file is executed.  Each access reads a tensor from the file again, so a checkpoint that is
    larger than memory can be read.
    """

    def __init__(self, path: Path) -> None:
        """Raises ValueError if the file holds something else, OSError if it cannot be read."""
        self._path = path
        self._open = _open_safetensors if path.suffix == ".safetensors" else _open_pickle
        self._names, self._read = self._open(path)
        self._num_read = 0

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        if self._num_read > _MAX_MAPPED_BYTES:
            self._names, self._read = self._open(self._path)
            self._num_read = 0
        tensor = self._read(name)
        self._num_read += tensor.nbytes
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor, without reading the tensors."""
        return dict(self._names)


_Opened = tuple[dict[str, tuple[int, ...]], Callable[[str], Tensor]]


def _open_safetensors(path: Path) -> _Opened:
    try:
        file = safe_open(path, framework="pt")
        names = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path.name} is not a complete safetensors file: {error}") from error
    return names, file.get_tensor


def _open_pickle(path: Path) -> _Opened:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path.name} cannot be read without executing code in it") from error
    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f'{path.name} does not hold a state, or {{"model": state}}')
    return {name: tuple(value.shape) for name, value in state.items()}, state.__getitem__


def _is_zip(path: Path) -> bool:
    """Whether the file has the format of torch since 1.6, which can be mapped into memory."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"
