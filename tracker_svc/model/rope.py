"""Rotary position embedding over the two axes of a grid.

Source: Su et al., "RoFormer" (2021); the axial form is that of Heo et al., "Rotary Position Embedding for
Vision Transformer" (2024): the first half of the pairs turns with x, the second with y.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

THETA = 10000.0


class Rotation(NamedTuple):
    """Cosines and sines of the angle of each position and pair of channels: [N, dim / 2] each."""

    cos: Tensor
    sin: Tensor


@lru_cache(maxsize=8)
def axial_rotation(height: int, width: int, dim: int, device: torch.device) -> Rotation:
    """Rotations of a grid's positions in row order, for tokens of width ``dim`` (a multiple of 4)."""
    frequencies = 1.0 / THETA ** (torch.arange(0, dim, 4, device=device).float() / dim)
    index = torch.arange(height * width, device=device)
    x, y = (index % width).float(), (index // width).float()
    angles = torch.cat((torch.outer(x, frequencies), torch.outer(y, frequencies)), dim=-1)
    return Rotation(angles.cos(), angles.sin())


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn neighbouring pairs of channels.

    x: [..., M, dim], where M is a multiple of the N positions of ``rotation``: several grids one
    after the other turn alike.  Returns the same shape and type.
    """
    positions, pairs = rotation.cos.shape
    grids = x.float().unflatten(-2, (-1, positions)).unflatten(-1, (pairs, 2))
    even, odd = grids.unbind(-1)
    turned = torch.stack(
        (even * rotation.cos - odd * rotation.sin, even * rotation.sin + odd * rotation.cos), dim=-1
    )
    return turned.flatten(-2).flatten(-3, -2).to(x.dtype)
