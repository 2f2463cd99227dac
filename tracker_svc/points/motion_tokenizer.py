"""Codes of the motion of points: a causal transformer whose latents are quantised.

Source: LAPS (arXiv 2511.21428); the quantiser is FSQ, Mentzer et al., "Finite Scalar Quantization", 2023.
The published weights of LAPS are not public; names of weights are those of this module.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from maskmesh.nn.checkpoint import CheckpointError
from maskmesh.nn.checkpoint_file import CheckpointFile

LEVELS = (8, 8, 6, 5)

# Keeps the bounds of an even number of levels away from the rounding of the next level.
_EPSILON = 1e-3


class MotionCodes(NamedTuple):
    """The codes of a window, one for each interval, and the mean distance of consecutive quantised
    latents."""

    codes: Sequence[int]
    energy: float


class Quantizer(nn.Module):
    """Finite scalar quantisation: each of a few dimensions is rounded to a number of levels."""

    def __init__(self, dim: int, levels: Sequence[int]) -> None:
        super().__init__()
        self.project_in = nn.Linear(dim, len(levels))
        self.project_out = nn.Linear(len(levels), dim)
        steps = [math.prod(levels[:n]) for n in range(len(levels))]
        self._levels: Tensor
        self._steps: Tensor
        self.register_buffer("_levels", torch.tensor(levels), persistent=False)
        self.register_buffer("_steps", torch.tensor(steps), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: [T, dim].  Returns the quantised latents, [T, dim], and the codes, [T]."""
        z = self.project_in(x)
        half = (self._levels - 1) * (1 + _EPSILON) / 2
        offset = torch.where(self._levels % 2 == 0, 0.5, 0.0)
        bounded = torch.tanh(z + torch.atanh(offset / half)) * half - offset
        rounded, width = bounded.round(), self._levels // 2
        codes = ((rounded + width).long() * self._steps).sum(dim=-1)
        latents: Tensor = self.project_out(rounded / width)
        return latents, codes


class MotionTokenizer(nn.Module):
    """Encodes the velocities of N points over the intervals of a window."""

    def __init__(
        self,
        num_points: int = 400,
        hidden_dim: int = 768,
        num_layers: int = 2,
        num_heads: int = 8,
        levels: Sequence[int] = LEVELS,
    ) -> None:
        super().__init__()
        self.num_points = num_points
        self.encoder_proj = nn.Linear(2 * num_points, hidden_dim)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                hidden_dim, num_heads, 4 * hidden_dim, 0.0, F.gelu, batch_first=True, norm_first=True
            )
            for _ in range(num_layers)
        )
        self.quantize = Quantizer(hidden_dim, levels)

    @torch.inference_mode()
    def tokenize(self, velocities: NDArray[np.float32]) -> MotionCodes:
        """velocities: [intervals, points, 2], float32, about -1 to 1."""
        weight = self.encoder_proj.weight
        x = torch.from_numpy(velocities.reshape(len(velocities), -1).copy()).to(weight.device)
        x = self.encoder_proj(x)
        x = x + _positions(len(x), x.shape[1]).to(x)
        mask = nn.Transformer.generate_square_subsequent_mask(len(x), device=x.device)
        for layer in self.layers:
            x = layer(x[None], src_mask=mask, is_causal=True)[0]
        latents, codes = self.quantize(x)
        energy = (latents[1:] - latents[:-1]).norm(dim=-1).mean() if len(latents) > 1 else torch.zeros(())
        return MotionCodes(codes.tolist(), float(energy))


def load_tokenizer(path: Path, device: torch.device) -> MotionTokenizer:
    """The tokenizer with the weights of a file.  Raises CheckpointError, ValueError, OSError."""
    file = CheckpointFile(path)
    shape = file.shapes.get("encoder_proj.weight")
    if shape is None or len(shape) != 2 or shape[1] % 2:
        raise CheckpointError(f"{path.name} is no checkpoint of a motion tokenizer")
    model = MotionTokenizer(num_points=shape[1] // 2, hidden_dim=shape[0])
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    found = {key: tuple(value) for key, value in file.shapes.items()}
    if expected != found:
        different = sorted(key for key in expected | found if expected.get(key) != found.get(key))
        raise CheckpointError(
            f"{path.name} is no checkpoint of a motion tokenizer: {', '.join(different[:5])} differ"
        )
    model.load_state_dict({key: file[key].float() for key in file}, strict=True)
    return model.to(device).eval().requires_grad_(False)


def _positions(count: int, dim: int) -> Tensor:
    """Sinusoidal encodings of the numbers from 0 on: [count, dim]."""
    frequencies = torch.exp(torch.arange(0, dim, 2) * (-math.log(10_000.0) / dim))
    angles = torch.arange(count)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)
