"""A small convolutional trunk, which needs far fewer training images than Hiera and is faster on a CPU.

Sources: residual blocks of He et al., "Deep Residual Learning for Image Recognition" (2016); attention
blocks at the coarsest stride with positions from a depth-wise convolution (Chu et al., "Conditional
Positional Encodings for Vision Transformers", 2023); the upsampling path of Ronneberger et al., "U-Net"
(2015).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskmesh.nn.preemption import PausePoint


class Conv(nn.Module):
    """A convolution that keeps the size, or halves it with a stride of 2.

    ``norm`` is the identity here: training replaces it with batch normalisation, and folds that into the
    convolution when the weights are exported.
    """

    def __init__(self, in_dim: int, out_dim: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dim, out_dim, kernel_size=3, stride=stride, padding=1)
        self.norm: nn.Module = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, in_dim, H, W]; returns [B, out_dim, H / stride, W / stride]."""
        y: Tensor = self.norm(self.conv(x))
        return y


class ResidualBlock(nn.Module):
    """Two convolutions with a residual connection."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = Conv(dim, dim)
        self.conv2 = Conv(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, dim, H, W]; returns the same shape."""
        return F.relu(x + self.conv2(F.relu(self.conv1(x))))


class AttentionBlock(nn.Module):
    """Self-attention over all positions, and an MLP over channels."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.positions = nn.Conv2d(dim, dim, kernel_size=3, padding=1, groups=dim)
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, 3 * dim)
        self.linear2 = nn.Linear(3 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, dim, H, W]; returns the same shape."""
        size = x.shape[-2:]
        tokens = (x + self.positions(x)).flatten(2).transpose(1, 2)
        heads = self.qkv(self.norm1(tokens)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(*heads.unbind(0)).transpose(1, 2).flatten(2)
        tokens = tokens + self.proj(attended)
        tokens = tokens + self.linear2(F.relu(self.linear1(self.norm2(tokens))))
        y: Tensor = tokens.transpose(1, 2).unflatten(-1, size)
        return y


class Merge(nn.Module):
    """Adds a coarser map to a finer one, and applies a residual block to the sum."""

    def __init__(self, coarse_dim: int, dim: int) -> None:
        super().__init__()
        self.lateral = nn.Conv2d(coarse_dim, dim, kernel_size=1)
        self.block = ResidualBlock(dim)

    def forward(self, x: Tensor, coarse: Tensor) -> Tensor:
        """x: [B, dim, H, W]; coarse: [B, coarse_dim, H / 2, W / 2]; returns [B, dim, H, W]."""
        top_down = F.interpolate(self.lateral(coarse), scale_factor=2.0, mode="bilinear")
        y: Tensor = self.block(x + top_down)
        return y


class ResidualTrunk(nn.Module):
    """Four stages at strides 4, 8, 16 and 32, and an upsampling path back to stride 4.

    ``dims`` is the number of channels of each stage and ``blocks`` its number of blocks.  The blocks of the
    last stage are attention blocks with ``heads`` heads.
    """

    def __init__(
        self, dims: tuple[int, int, int, int], *, blocks: tuple[int, int, int, int], heads: int
    ) -> None:
        super().__init__()
        self.stem = Conv(3, dims[0] // 2, stride=2)
        self.down = nn.ModuleList(
            Conv(in_dim, dim, stride=2) for in_dim, dim in zip((dims[0] // 2, *dims), dims, strict=False)
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(dim) for _ in range(count)))
            for dim, count in zip(dims[:3], blocks[:3], strict=True)
        )
        self.stages.append(nn.Sequential(*(AttentionBlock(dims[3], heads) for _ in range(blocks[3]))))
        self.pause = PausePoint()
        self.up = nn.ModuleList(Merge(coarse, dim) for coarse, dim in zip(dims[1:], dims[:3], strict=True))
        # Channels last is a quarter faster on a CPU, and makes tokens a view of a map.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, image: Tensor) -> list[Tensor]:
        """image: [B, 3, S, S]; returns maps [B, dims[i], H, W] at strides 4, 8, 16 and 32."""
        x = F.relu(self.stem(image.contiguous(memory_format=torch.channels_last)))
        maps: list[Tensor] = []
        for down, stage in zip(self.down, self.stages, strict=True):
            x = stage(F.relu(down(x)))
            maps.append(x)
            self.pause()
        for level in (2, 1, 0):
            maps[level] = self.up[level](maps[level], maps[level + 1])
        return maps
