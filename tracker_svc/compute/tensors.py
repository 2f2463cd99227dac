"""Tensors as bytes, to the bit."""

from collections.abc import Sequence

import torch
from torch import Tensor


def to_bytes(tensor: Tensor) -> bytes:
    """The elements of a tensor in row order."""
    # NumPy has no bfloat16: the bits as they are.
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def from_bytes(data: bytes, dtype: torch.dtype, shape: Sequence[int], device: torch.device) -> Tensor:
    """A tensor of elements in row order.  Raises ValueError where there are too few or too many."""
    flat = torch.frombuffer(bytearray(data), dtype=dtype)
    try:
        return flat.view(tuple(shape)).to(device)
    except RuntimeError as error:
        raise ValueError(f"{len(flat)} elements are no tensor of {list(shape)}") from error
