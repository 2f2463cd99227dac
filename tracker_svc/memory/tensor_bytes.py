"""Lossless conversion of tensors to bytes and back."""

from collections.abc import Sequence

import torch
from torch import Tensor


def to_bytes(tensor: Tensor) -> bytes:
    """Returns the elements of a tensor in row-major order."""
    # NumPy has no bfloat16, so the tensor is viewed as bytes.
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def from_bytes(data: bytes, dtype: torch.dtype, shape: Sequence[int], device: torch.device) -> Tensor:
    """Returns a tensor of elements in row-major order.  Raises ValueError if their number is not that of
    ``shape``.
    """
    flat = torch.frombuffer(bytearray(data), dtype=dtype)
    try:
        return flat.view(tuple(shape)).to(device)
    except RuntimeError as error:
        raise ValueError(f"{len(flat)} elements do not fit the shape {list(shape)}") from error
