"""The neck: projects the trunk's maps to one number of channels and adds the coarsest map to the next one.

Source: Lin et al., "Feature Pyramid Networks for Object Detection" (2017), in the form that SAM 2
(Ravi et al., 2024) uses: only the map at stride 16 receives a top-down addition.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class Lateral(nn.Module):
    """A 1 x 1 convolution with the attribute name of the checkpoints."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dim, out_dim, kernel_size=1)


class FpnNeck(nn.Module):
    """Lateral convolutions of four maps, and one top-down addition from stride 32 to stride 16."""

    def __init__(self, dims: tuple[int, int, int, int], embed_dim: int) -> None:
        super().__init__()
        # The checkpoints order the maps from the coarsest to the finest.
        self.convs = nn.ModuleList(Lateral(dim, embed_dim) for dim in reversed(dims))

    def lateral(self, level: int) -> nn.Conv2d:
        """The convolution of one map, 0 for the finest; :meth:`forward` applies those of levels 2 and 3
        only.
        """
        conv = self.convs[-1 - level]
        assert isinstance(conv, Lateral)
        return conv.conv

    def forward(self, stride16: Tensor, stride32: Tensor) -> Tensor:
        """stride16, stride32: [B, C, H, W] each; returns stride 16: [B, embed_dim, H, W]."""
        top_down = F.interpolate(self.lateral(3)(stride32).float(), scale_factor=2.0, mode="nearest")
        finer: Tensor = self.lateral(2)(stride16)
        return finer + top_down.to(finer.dtype)
