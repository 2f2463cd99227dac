"""The neck: brings the trunk's maps to one width and passes the coarsest one down.

Source: Lin et al., "Feature Pyramid Networks for Object Detection" (2017), as SAM 2 (Ravi et al., 2024)
uses it: only stride 16 receives the map above it.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class Lateral(nn.Module):
    """A 1 x 1 convolution under the name that the checkpoints give it."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dim, out_dim, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, in_dim, H, W]; returns [B, out_dim, H, W]."""
        y: Tensor = self.conv(x)
        return y


class FpnNeck(nn.Module):
    """Lateral convolutions, and one top-down addition from stride 32 to stride 16."""

    def __init__(self, dims: tuple[int, int, int, int], embed_dim: int) -> None:
        super().__init__()
        # The checkpoints count from the coarsest map to the finest.
        self.convs = nn.ModuleList(Lateral(dim, embed_dim) for dim in reversed(dims))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """maps: four [B, C, H, W], the finest first; returns strides 4, 8, 16: [B, embed_dim, H, W]."""
        stride4, stride8, stride16, stride32 = (
            conv(x) for conv, x in zip(reversed(self.convs), maps, strict=True)
        )
        top_down = F.interpolate(stride32.float(), scale_factor=2.0, mode="nearest")
        return [stride4, stride8, stride16 + top_down.to(stride16.dtype)]
