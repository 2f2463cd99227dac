"""Necks: from the trunk's map to maps at strides 3.5, 7 and 14.

Source: Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection" (2022), in the form
of SAM 3 (Carion et al., 2025).  The checkpoint has a fourth level at stride 28, which no stage reads.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskmesh.nn.image_features import ImageFeatures

LEVELS = 3


class NeckLevel(nn.Module):
    """One level: transposed convolutions that enlarge the map, then a 1 x 1 and a 3 x 3 convolution."""

    def __init__(self, trunk_dim: int, dim: int, *, doublings: int) -> None:
        super().__init__()
        half = trunk_dim // 2
        if doublings == 2:
            self.dconv_2x2_0 = nn.ConvTranspose2d(trunk_dim, half, kernel_size=2, stride=2)
            self.dconv_2x2_1 = nn.ConvTranspose2d(half, half // 2, kernel_size=2, stride=2)
        elif doublings == 1:
            self.dconv_2x2 = nn.ConvTranspose2d(trunk_dim, half, kernel_size=2, stride=2)
        self.doublings = doublings
        self.conv_1x1 = nn.Conv2d(trunk_dim >> doublings, dim, kernel_size=1)
        self.conv_3x3 = nn.Conv2d(dim, dim, kernel_size=3, padding=1)

    def forward(self, x: Tensor, projection: nn.Conv2d | None = None) -> Tensor:
        """x: [B, trunk_dim, E, E]; returns [B, dim, E * 2 ** doublings, E * 2 ** doublings].

        ``projection`` is a 1 x 1 convolution that follows; it is merged into the last convolution, and the
        result has its number of channels.
        """
        if self.doublings == 2:
            x = F.gelu(self.dconv_2x2_0(x))
        x = self._project(x)
        if projection is None:
            y: Tensor = self.conv_3x3(x)
            return y
        weight, bias = merged(self.conv_3x3, projection)
        return F.conv2d(x, weight, bias, padding=1)

    def _project(self, x: Tensor) -> Tensor:
        """The last enlargement and the 1 x 1 convolution, as one transposed convolution."""
        if not self.doublings:
            y: Tensor = self.conv_1x1(x)
            return y
        enlarge = self.dconv_2x2_1 if self.doublings == 2 else self.dconv_2x2
        inner, outer = enlarge.weight.float(), self.conv_1x1.weight.flatten(1).float()
        weight = torch.einsum("imhw,om->iohw", inner, outer)
        assert enlarge.bias is not None
        assert self.conv_1x1.bias is not None
        bias = outer @ enlarge.bias.float() + self.conv_1x1.bias.float()
        return F.conv_transpose2d(x, weight.to(x.dtype), bias.to(x.dtype), stride=2)


def merged(first: nn.Conv2d, second: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of one convolution that does the work of two, of which the second is 1 x 1."""
    assert first.bias is not None
    assert second.bias is not None
    outer = second.weight.flatten(1).float()
    weight = torch.einsum("om,mihw->oihw", outer, first.weight.float())
    bias = outer @ first.bias.float() + second.bias.float()
    return weight.to(first.weight.dtype), bias.to(first.weight.dtype)


class DetectorMaps(NamedTuple):
    """The maps of the detector's neck for B images; the two finer maps are read by the mask head alone."""

    stride4: Tensor  # [B, dim, 4 E, 4 E]
    stride8: Tensor  # [B, dim, 2 E, 2 E]

    def rows(self, indices: Sequence[int]) -> "DetectorMaps":
        """The maps of some images; those of a single image as they are, to be broadcast."""
        if len(self.stride4) == 1:
            return self
        return DetectorMaps(self.stride4[list(indices)], self.stride8[list(indices)])


class Neck(nn.ModuleList):
    """The levels of a neck, the finest first, as in the checkpoint."""

    def __init__(self, trunk_dim: int, dim: int) -> None:
        super().__init__(NeckLevel(trunk_dim, dim, doublings=2 - level) for level in range(LEVELS))

    def coarse(self, trunk_map: Tensor) -> Tensor:
        """The map at the trunk's own stride.  trunk_map: [B, trunk_dim, E, E]; returns [B, dim, E, E]."""
        y: Tensor = self[2](trunk_map)
        return y

    def fine(self, trunk_map: Tensor) -> DetectorMaps:
        """The two finer maps."""
        return DetectorMaps(self[0](trunk_map), self[1](trunk_map))

    def features(self, trunk_map: Tensor, conv_s0: nn.Conv2d, conv_s1: nn.Conv2d) -> ImageFeatures:
        """The features that the tracking stages read; ``conv_s0`` and ``conv_s1`` are the projections of
        the mask decoder.
        """
        return ImageFeatures(
            self.coarse(trunk_map).contiguous(),
            self[0](trunk_map, conv_s0).contiguous(),
            self[1](trunk_map, conv_s1).contiguous(),
        )
