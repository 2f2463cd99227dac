"""Rotary position embedding over the two axes of a grid.

Source: Su et al., "RoFormer" (2021); the axial form is that of Heo et al., "Rotary Position Embedding for
Vision Transformer" (2024): the first half of the pairs turns with x, the second with y.

What is turned is always the outcome of a linear layer.  With its rows swapped within the pairs the layer
gives the other half of each turn, so that turning is two products and two passes over the outcome, instead
of taking it apart and putting it together again.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

THETA = 10000.0


class Rotation(NamedTuple):
    """What a channel, and the other one of its pair, are multiplied with at each position.

    Both [N, dim], or [dim, N] where channels come first.
    """

    same: Tensor  # cosines
    other: Tensor  # sines, those of the first of a pair negative


@lru_cache(maxsize=16)
def axial_rotation(
    grid: tuple[int, int],
    dim: int,
    device: torch.device,
    dtype: torch.dtype,
    *,
    channels_first: bool = False,
) -> Rotation:
    """Rotations of a grid's positions in row order, for tokens of width ``dim`` (a multiple of 4)."""
    height, width = grid
    frequencies = 1.0 / THETA ** (torch.arange(0, dim, 4, device=device).float() / dim)
    index = torch.arange(height * width, device=device)
    x, y = (index % width).float(), (index // width).float()
    angles = torch.cat((torch.outer(x, frequencies), torch.outer(y, frequencies)), dim=-1)
    cosines, sines = angles.cos(), angles.sin()
    tables = torch.stack((cosines, cosines), -1).flatten(-2), torch.stack((-sines, sines), -1).flatten(-2)
    if channels_first:
        tables = tables[0].T, tables[1].T
    return Rotation(*(table.to(dtype).contiguous() for table in tables))


def swap_pairs(x: Tensor) -> Tensor:
    """Exchange neighbours in the first dimension."""
    swapped: Tensor = x.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
    return swapped


def turned(layer: nn.Linear, x: Tensor, rotation: Rotation) -> Tensor:
    """What ``layer`` makes of x: [B, N, C], turned: [B, N, dim]; N are the positions of ``rotation``."""
    other = F.linear(x, swap_pairs(layer.weight), swap_pairs(layer.bias))
    return torch.addcmul(layer(x) * rotation.same, other, rotation.other)


def rotate_grids(layer: nn.Linear, x: Tensor, rotation: Rotation, *, num_pointer_tokens: int) -> Tensor:
    """What ``layer`` makes of several grids one after the other, and of tokens that have no position.

    x: [C, M], the ``num_pointer_tokens`` tokens last; ``rotation`` has its channels first too.  Returns [dim, M].
    """
    with_positions = x.shape[-1] - num_pointer_tokens
    same = torch.addmm(layer.bias[:, None], layer.weight, x)
    other = torch.addmm(swap_pairs(layer.bias)[:, None], swap_pairs(layer.weight), x[:, :with_positions])
    grids = (-1, rotation.same.shape[-1])
    turning = same[:, :with_positions].unflatten(1, grids)
    turning *= rotation.same[:, None]
    turning.addcmul_(other.unflatten(1, grids), rotation.other[:, None])
    return same
