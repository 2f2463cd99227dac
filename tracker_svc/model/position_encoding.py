"""Encodings of grid positions, of points and of times."""

import math
from functools import lru_cache

import torch
from torch import Tensor, nn


@lru_cache(maxsize=8)
def sine_position_encoding(height: int, width: int, dim: int, device: torch.device) -> Tensor:
    """Fixed sines of a grid's rows and columns: [dim, height, width], the rows first.

    Source: Vaswani et al. (2017), in two dimensions as in Carion et al., "End-to-End Object Detection
    with Transformers" (2020): positions count from 1 and are scaled to 2 pi.  The tensor is cached and must
    not be modified.
    """

    def one_axis(length: int) -> Tensor:
        positions = torch.arange(1, length + 1, dtype=torch.float32, device=device)
        scaled = positions / (length + 1e-6) * 2 * math.pi
        pairs = torch.arange(dim // 2, device=device) // 2
        angles = scaled[:, None] / 10000.0 ** (2 * pairs / (dim // 2))
        return torch.stack((angles[:, 0::2].sin(), angles[:, 1::2].cos()), dim=2).flatten(1)

    rows = one_axis(height)[:, None, :].expand(height, width, dim // 2)
    columns = one_axis(width)[None, :, :].expand(height, width, dim // 2)
    return torch.cat((rows, columns), dim=-1).permute(2, 0, 1).contiguous()


def sine_time_encoding(times: Tensor, dim: int) -> Tensor:
    """Fixed sines of times: [N] (any scale) to [N, dim], sines first, then cosines."""
    pairs = torch.arange(dim // 2, dtype=torch.float32, device=times.device) // 2
    angles = times.float()[:, None] / 10000.0 ** (2 * pairs / (dim // 2))
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


class RandomPositionEncoding(nn.Module):
    """Random Fourier features of points, which prompts and the image grid share.

    Source: Tancik et al., "Fourier Features Let Networks Learn High Frequency Functions" (2020).
    """

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, dim // 2))

    def forward(self, points: Tensor) -> Tensor:
        """points: [..., 2], xy relative to the image size, in [0, 1]; returns [..., dim]."""
        matrix = self.positional_encoding_gaussian_matrix
        angles = 2 * math.pi * ((2 * points.to(matrix.dtype) - 1) @ matrix)
        return torch.cat((angles.sin(), angles.cos()), dim=-1)

    def grid(self, height: int, width: int) -> Tensor:
        """The encoding of the centres of a grid's cells: [1, dim, height, width]."""
        device = self.positional_encoding_gaussian_matrix.device
        y = (torch.arange(height, device=device) + 0.5) / height
        x = (torch.arange(width, device=device) + 0.5) / width
        points = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
        encoded: Tensor = self(points)
        return encoded.permute(2, 0, 1).unsqueeze(0)
