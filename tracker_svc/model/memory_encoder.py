"""Memory encoder: computes the memory of an object from a frame's embedding and the object's mask.

Source: Ravi et al., "SAM 2" (2024); the fuser blocks are those of Liu et al., "A ConvNet for the 2020s"
(2022).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tracker_svc.model.layers import LayerNorm2d


class MaskDownsampler(nn.Module):
    """Downsamples a mask to the grid of the embedding with four convolutions of stride 2."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for _ in range(4):
            layers += [
                nn.Conv2d(channels, channels * 4, kernel_size=3, stride=2, padding=1),
                LayerNorm2d(channels * 4),
                nn.GELU(),
            ]
            channels *= 4
        layers.append(nn.Conv2d(channels, embed_dim, kernel_size=1))
        self.encoder = nn.Sequential(*layers)

    def forward(self, mask: Tensor) -> Tensor:
        """mask: [B, 1, S, S]; returns [B, embed_dim, S / 16, S / 16]."""
        y: Tensor = self.encoder(mask)
        return y


class FuserBlock(nn.Module):
    """A depth-wise 7 x 7 convolution and a scaled MLP over channels, with a residual connection."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, kernel_size=7, padding=3, groups=dim)
        self.norm = LayerNorm2d(dim)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, dim, H, W]; returns the same shape."""
        y: Tensor = self.norm(self.dwconv(x)).permute(0, 2, 3, 1)
        y = self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))
        return x + y.permute(0, 3, 1, 2)


class Fuser(nn.Module):
    """Two blocks, grouped as in the official checkpoints."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(FuserBlock(dim) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, dim, H, W]; returns the same shape."""
        for layer in self.layers:
            x = layer(x)
        return x


class MemoryEncoder(nn.Module):
    """Adds the features of mask and embedding, fuses them and projects them to ``memory_dim`` channels."""

    def __init__(self, embed_dim: int, memory_dim: int) -> None:
        super().__init__()
        self.mask_downsampler = MaskDownsampler(embed_dim)
        self.pix_feat_proj = nn.Conv2d(embed_dim, embed_dim, kernel_size=1)
        self.fuser = Fuser(embed_dim)
        self.out_proj = nn.Conv2d(embed_dim, memory_dim, kernel_size=1)

    def forward(self, image_embedding: Tensor, mask: Tensor) -> Tensor:
        """Encode the memory of B objects on one frame.

        image_embedding: [1, C, E, E], not conditioned on any memory.
        mask: [B, 1, S, S], scaled as in :func:`tracker_svc.model.memory_masks.scale_mask`.
        Returns [B, memory_dim, E, E].
        """
        fused = self.fuser(self.pix_feat_proj(image_embedding) + self.mask_downsampler(mask))
        y: Tensor = self.out_proj(fused)
        return y
