"""Scaled dot-product attention: torch's, or the AMX kernel for bfloat16 on a CPU that has matrix units."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from maskmesh.nn.amx import kernel

# Rows of attention weights that are computed at once, so that they stay in the cache of a core.
QUERY_BLOCK = 256


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """query: [B, N, heads, D]; key: [B, M, heads, D]; value: [B, M, heads, V]; returns [B, N, heads, V]."""
    if fits_kernel(query) and kernel.can_attend(key.shape[-1], value.shape[-1]):
        attended = query.new_empty(*query.shape[:-1], value.shape[-1])
        kernel.attend(query, key, value, attended, threads=torch.get_num_threads())
        return attended
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2)


def attend_in_blocks(query: Tensor, key: Tensor, value: Tensor, pause: Callable[[], object]) -> Tensor:
    """Attention with one head, a block of queries at a time; without gradients.

    For values narrower than keys, which torch's kernels for a CPU do not take.  ``pause`` is called between
    blocks. query: [N, D]; key: [D, M]; value: [M, V]; returns [N, V] in the type of the keys.
    """
    scaled, value = (query * query.shape[-1] ** -0.5).to(key.dtype), value.to(key.dtype)
    attended = key.new_empty(len(query), value.shape[-1])
    buffer = key.new_empty(min(QUERY_BLOCK, len(query)), key.shape[-1])
    for start in range(0, len(query), QUERY_BLOCK):
        block = scaled[start : start + QUERY_BLOCK]
        weights = torch.mm(block, key, out=buffer[: len(block)])
        torch.softmax(weights, dim=-1, out=weights)
        torch.mm(weights, value, out=attended[start : start + QUERY_BLOCK])
        pause()
    return attended


def fits_kernel(query: Tensor) -> bool:
    """Whether the AMX kernel takes tensors of this type and device; it computes no gradients."""
    return query.device.type == "cpu" and query.dtype is torch.bfloat16 and not torch.is_grad_enabled()
