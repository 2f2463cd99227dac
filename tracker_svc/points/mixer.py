"""The mixer of TAPIR: it refines a point over time, by convolutions over the frames and layers over the
channels.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskmesh.nn.preemption import PausePoint
from tracker_svc.points.config import PointTrackerConfig

KERNEL = 3


class MixerState(NamedTuple):
    """What a causal mixer keeps of the frames before, for N points: the last two inputs of each convolution.

    ``first`` is [blocks, N, 2, hidden_dim], ``second`` [blocks, N, 2, expansion * hidden_dim].  Zeros mean
    that there was no frame.
    """

    first: Tensor
    second: Tensor


class ChannelMixer(nn.Module):
    """Two layers over the channels of one frame."""

    def __init__(self, dim: int, expansion: int) -> None:
        super().__init__()
        self.mlp2_up = nn.Linear(dim, expansion * dim)
        self.mlp2_down = nn.Linear(expansion * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, T, C]; returns the same shape."""
        out: Tensor = self.mlp2_down(_gelu(self.mlp2_up(x)))
        return out


class MixerBlock(nn.Module):
    """Two depthwise convolutions over time, then a mix of the channels."""

    def __init__(self, dim: int, expansion: int) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(dim, bias=False)
        self.mlp1_up = nn.Conv1d(dim, expansion * dim, KERNEL, groups=dim)
        self.mlp1_up_1 = nn.Conv1d(expansion * dim, expansion * dim, KERNEL, groups=expansion * dim)
        self.layer_norm_1 = nn.LayerNorm(dim, bias=False)
        self.conv_channels_mixer = ChannelMixer(dim, expansion)
        self._expansion = expansion

    def forward(self, x: Tensor, before: tuple[Tensor, Tensor] | None) -> Tensor:
        """Mix T frames of N points.

        x: [N, T, C]; returns the same shape.  ``before`` are the last two inputs of the two convolutions,
        [N, 2, C] and [N, 2, expansion * C], which are replaced by those of these frames; None means that the
        convolutions are not causal.
        """
        first = _extended(self.layer_norm(x), None if before is None else before[0])
        wide = _over_time(first.unsqueeze(2), self.mlp1_up, self._expansion)
        second = _extended(_gelu(wide).flatten(2), None if before is None else before[1])
        mixed = _over_time(second.unflatten(2, (self._expansion, -1)), self.mlp1_up_1, self._expansion)
        x = x + mixed.sum(dim=2)
        if before is not None:
            before[0].copy_(first[:, -2:])
            before[1].copy_(second[:, -2:])
        out: Tensor = x + self.conv_channels_mixer(self.layer_norm_1(x))
        return out


class Mixer(nn.Module):
    """Blocks between two linear layers."""

    def __init__(self, config: PointTrackerConfig, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_dim, config.hidden_dim)
        self.blocks = nn.ModuleList(
            MixerBlock(config.hidden_dim, config.expansion) for _ in range(config.blocks)
        )
        self.pause = PausePoint()
        self.layer_norm = nn.LayerNorm(config.hidden_dim, bias=False)
        self.linear_1 = nn.Linear(config.hidden_dim, out_dim)

    def forward(self, x: Tensor, state: MixerState | None) -> Tensor:
        """Mix T frames of N points.

        x: [N, T, in_dim]; returns [N, T, out_dim].  ``state`` is that after the frames before, and is changed
        to that after these frames; None means that the mixer is not causal and reads one frame on either
        side.
        """
        x = self.linear(x)
        for index, block in enumerate(self.blocks):
            self.pause()
            x = block(x, None if state is None else (state.first[index], state.second[index]))
        out: Tensor = self.linear_1(self.layer_norm(x))
        return out


def _gelu(x: Tensor) -> Tensor:
    """GELU in the approximation by tanh; in 16 bits the exact one, which differs by less than its rounding
    and takes a fifth of the time on a processor.
    """
    return F.gelu(x, approximate="tanh" if x.dtype == torch.float32 else "none")


def _extended(x: Tensor, before: Tensor | None) -> Tensor:
    """x, [N, T, C], with the frames that a convolution reads besides: [N, T + 2, C]."""
    return F.pad(x, (0, 0, 1, 1)) if before is None else torch.cat([before, x], dim=1)


def _over_time(x: Tensor, convolution: nn.Conv1d, expansion: int) -> Tensor:
    """Apply a depthwise convolution of three frames whose outputs are ``expansion`` groups of C channels.

    x: [N, T + 2, 1 or expansion, C]; returns [N, T, expansion, C].  Equal to the convolution, whose outputs
    lie beside one another for each channel; here the channels of a group do, so that the processor multiplies
    them together.
    """
    num_frames = x.shape[1] - (KERNEL - 1)
    assert convolution.bias is not None
    taps = convolution.weight.view(-1, expansion, KERNEL).permute(2, 1, 0).contiguous()  # [3, expansion, C]
    bias = convolution.bias.view(-1, expansion).T.contiguous()
    out = torch.addcmul(bias, x[:, :num_frames], taps[0])
    for tap in range(1, KERNEL):
        out.addcmul_(x[:, tap : tap + num_frames], taps[tap])
    return out
