"""Scaled dot-product attention: torch's, or the AMX kernel for bfloat16 on a CPU that has matrix units."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from maskmesh.nn.amx import kernel

# Rows of attention weights that are computed at once, so that they stay in the cache of a core.
QUERY_BLOCK = 256
HEAD_QUERY_BLOCK = 576

# From this number of queries and keys on, attention in bfloat16 on a CPU is computed head by head.
MIN_TOKENS_FOR_HEADS = 512


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """query: [B, N, heads, D]; key: [B, M, heads, D]; value: [B, M, heads, V]; returns [B, N, heads, V]."""
    if fits_kernel(query) and kernel.can_attend(key.shape[-1], value.shape[-1]):
        attended = query.new_empty(*query.shape[:-1], value.shape[-1])
        kernel.attend(query, key, value, attended, threads=torch.get_num_threads())
        return attended
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    if fits_kernel(query) and min(query.shape[2], key.shape[2]) >= MIN_TOKENS_FOR_HEADS:
        return _attend_by_head(query, key, value).transpose(1, 2)
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2)


def _attend_by_head(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention head by head, a block of queries at a time.

    For bfloat16 on processors without matrix units, on which large products are up to twice as fast as
    torch's fused attention.  Logits are rounded to bfloat16, as everything around attention is: the error of
    a SAM 3 trunk against float32 is 1.33 % (RMS) with both.

    query: [B, heads, N, D]; key: [B, heads, M, D]; value: [B, heads, M, V]; returns [B, heads, N, V].
    """
    attended = query.new_empty(*query.shape[:-1], value.shape[-1])
    for item in range(len(query)):
        for head in range(query.shape[1]):
            keys, values = key[item, head].T.contiguous(), value[item, head].contiguous()
            attended[item, head] = attend_in_blocks(
                query[item, head], keys, values, _continue, block=HEAD_QUERY_BLOCK
            )
    return attended


def _continue() -> None:
    """A pause that does nothing."""


def attend_in_blocks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    pause: Callable[[], object],
    *,
    block: int = QUERY_BLOCK,
) -> Tensor:
    """Attention with one head, ``block`` queries at a time; without gradients.

    For values narrower than keys, which torch's kernels for a CPU do not take.  ``pause`` is called between
    blocks. query: [N, D]; key: [D, M]; value: [M, V]; returns [N, V] in the type of the keys.
    """
    scaled, value = (query * query.shape[-1] ** -0.5).to(key.dtype), value.to(key.dtype)
    attended = key.new_empty(len(query), value.shape[-1])
    buffer = key.new_empty(min(block, len(query)), key.shape[-1])
    for start in range(0, len(query), block):
        rows = scaled[start : start + block]
        weights = torch.mm(rows, key, out=buffer[: len(rows)])
        torch.softmax(weights, dim=-1, out=weights)
        torch.mm(weights, value, out=attended[start : start + block])
        pause()
    return attended


def fits_kernel(query: Tensor) -> bool:
    """Whether the AMX kernel takes tensors of this type and device; it computes no gradients."""
    return query.device.type == "cpu" and query.dtype is torch.bfloat16 and not torch.is_grad_enabled()
