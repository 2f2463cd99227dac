"""Rotary position embedding over the two axes of a grid.

Source: Su et al., "RoFormer" (2021); the axial form is that of Heo et al., "Rotary Position Embedding for
Vision Transformer" (2024): the first half of the channel pairs rotates with x, the second with y.

Rotation is applied to the output of a linear layer.  A second product, with the layer's rows swapped within
each pair, gives the other channel of the pair, so that a rotation is two products and two passes over their
output.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

THETA = 10000.0


class Rotation(NamedTuple):
    """The factors of a channel and of the other channel of its pair, at each of N positions.

    Both have the shape [N, dim], or [dim, N] with channels first.
    """

    cos: Tensor
    sin: Tensor  # negative for the first channel of a pair


@lru_cache(maxsize=16)
def axial_rotation(
    grid: tuple[int, int],
    dim: int,
    device: torch.device,
    dtype: torch.dtype,
    *,
    channels_first: bool = False,
) -> Rotation:
    """Rotations of the positions of a grid in row order, for tokens of width ``dim`` (a multiple of 4)."""
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
    """Exchange the two rows of each pair in the first dimension."""
    swapped: Tensor = x.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
    return swapped


def rotate(layer: nn.Linear, x: Tensor, rotation: Rotation) -> Tensor:
    """Returns the output of ``layer`` for x: [B, N, C], rotated by ``rotation``: [B, N, dim]."""
    swapped = F.linear(x, swap_pairs(layer.weight), swap_pairs(layer.bias))
    return torch.addcmul(layer(x) * rotation.cos, swapped, rotation.sin)


def rotate_grids(layer: nn.Linear, x: Tensor, rotation: Rotation, *, num_pointer_tokens: int) -> Tensor:
    """Returns the output of ``layer`` for x: [C, M], rotated except for the last ``num_pointer_tokens``:
    [dim, M].

    The other tokens are consecutive grids.  ``rotation`` has channels first.
    """
    num_grid_tokens = x.shape[-1] - num_pointer_tokens
    output = torch.addmm(layer.bias[:, None], layer.weight, x)
    swapped = torch.addmm(swap_pairs(layer.bias)[:, None], swap_pairs(layer.weight), x[:, :num_grid_tokens])
    grids = (-1, rotation.cos.shape[-1])
    rotated = output[:, :num_grid_tokens].unflatten(1, grids)
    rotated *= rotation.cos[:, None]
    rotated.addcmul_(swapped.unflatten(1, grids), rotation.sin[:, None])
    return output
