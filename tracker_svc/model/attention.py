"""Scaled dot-product attention by whichever kernel is at hand."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskmesh.nn.amx import kernel
from tracker_svc.model.rope import Rotation, rotate_grids

# Rows of attention weights that are computed at once: so many stay in the cache of a core.
QUERY_BLOCK = 256

# Queries of our kernel between two pauses: a few milliseconds of work.
QUERIES_PER_PAUSE = 1024


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """query: [B, N, heads, D]; key: [B, M, heads, D]; value: [B, M, heads, V]; returns [B, N, heads, V]."""
    if _takes(query) and kernel.can_attend(key.shape[-1], value.shape[-1]):
        attended = query.new_empty(*query.shape[:-1], value.shape[-1])
        kernel.attend(query, key, value, attended, threads=torch.get_num_threads())
        return attended
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2)


def attend_to_memories(
    query: Tensor,
    memory: Tensor,
    with_positions: Tensor,
    *,
    key_layer: nn.Linear,
    rotation: Rotation,
    num_pointer_tokens: int,
    pause: Callable[[], object],
) -> Tensor:
    """Attention of one head to several grids of memories and to tokens without a place; without gradients.

    What is summed is the memories themselves: their projection, which is linear, can follow the sum, and is
    four times as wide.  Queries are taken block by block, and ``pause`` is called between the blocks.
    query: [N, D], turned; memory, placed: [C, M] without and with positions, of which the last ``num_pointer_tokens``
    have none in a grid; ``key_layer`` makes keys of the width D; ``rotation`` has channels first.
    Returns [N, C].
    """
    (width, count), places = memory.shape, rotation.same.shape[1]
    if not (_takes(query) and kernel.can_pack_memories(query.shape[-1], width, places)):
        keys = rotate_grids(key_layer, with_positions, rotation, num_pointer_tokens=num_pointer_tokens)
        return attend_in_blocks(query, keys, memory.T, pause)
    threads = torch.get_num_threads()
    packed = memory.new_empty(kernel.packed_size(count, query.shape[-1], width))
    kernel.pack_memories(
        with_positions,
        memory,
        weight=key_layer.weight,
        bias=key_layer.bias,
        cosines=rotation.same,
        sines=rotation.other,
        num_pointer_tokens=num_pointer_tokens,
        packed=packed,
        threads=threads,
    )
    attended = query.new_empty(len(query), width)
    for start in range(0, len(query), QUERIES_PER_PAUSE):
        rows = slice(start, start + QUERIES_PER_PAUSE)
        kernel.attend_packed(query[rows], packed, attended[rows], keys=count, threads=threads)
        pause()
    return attended


def attend_in_blocks(query: Tensor, key: Tensor, value: Tensor, pause: Callable[[], object]) -> Tensor:
    """Scaled dot-product attention of one head, a block of queries at a time; without gradients.

    For values narrower than keys, which torch's kernels for a CPU do not take.  ``pause`` is called
    between the blocks.
    query: [N, D]; key: [D, M]; value: [M, V]; returns [N, V] in the type of the keys.
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


def _takes(query: Tensor) -> bool:
    """Whether our kernel takes tensors of such a type where they are."""
    return query.device.type == "cpu" and query.dtype is torch.bfloat16 and not torch.is_grad_enabled()
