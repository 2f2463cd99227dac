"""The trunk of SAM 3: a plain vision transformer with windowed and global attention.

Source: Bolya et al., "Perception Encoder" (2025), in the form that Carion et al., "SAM 3: Segment Anything
with Concepts" (2025) uses.  Attributes have the names of the official checkpoint.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoder_svc.model.config import VisionTransformerConfig
from encoder_svc.model.token_map import TokenMap
from maskmesh.nn.attention import attend
from maskmesh.nn.preemption import PausePoint

THETA = 10000.0
NORM_EPS = 1e-5


@lru_cache(maxsize=8)
def grid_rotations(side: int, head_dim: int, scale: float, device: torch.device) -> Tensor:
    """Rotations of the channel pairs of a head at each position of a square grid: [side * side, 1,
    head_dim / 2], complex.

    The first half of the pairs rotates with x, the second half with y.  ``scale`` multiplies the positions,
    so that a larger grid spans the angles of the training.  The tensor is cached and must not be modified.
    Source: Heo et al., "Rotary Position Embedding for Vision Transformer" (2024).
    """
    frequencies = THETA ** -(torch.arange(0, head_dim, 4, device=device).float() / head_dim)
    index = torch.arange(side * side, device=device)
    x, y = (index % side) * scale, (index // side) * scale
    angles = torch.cat((torch.outer(x, frequencies), torch.outer(y, frequencies)), dim=-1)
    return torch.polar(torch.ones_like(angles), angles)[:, None]


def rotate_pairs(x: Tensor, rotations: Tensor) -> Tensor:
    """Rotate neighbouring channels in float32.  x: [..., N, heads, D]; returns the same shape and type."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotations).flatten(-2).to(x.dtype)


class RotaryAttention(nn.Module):
    """Self-attention over the tokens of a square grid, with rotary positions."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, scale: float) -> Tensor:
        """x: [B, side, side, dim]; returns the same shape."""
        batch, side, _, dim = x.shape
        qkv = self.qkv(x).view(batch, side * side, 3, self.heads, -1)
        rotations = grid_rotations(side, dim // self.heads, scale, x.device)
        queries, keys, values = qkv.unbind(2)
        attended = attend(rotate_pairs(queries, rotations), rotate_pairs(keys, rotations), values)
        y: Tensor = self.proj(attended.flatten(-2).view_as(x))
        return y


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., dim]; returns the same shape."""
        y: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return y


class Block(nn.Module):
    """Attention within windows of ``window`` tokens, 0 for the whole grid, and a feed-forward network."""

    def __init__(self, config: VisionTransformerConfig, *, window: int) -> None:
        super().__init__()
        self.window = window
        self.window_size = config.window_size
        self.norm1 = nn.LayerNorm(config.dim, eps=NORM_EPS)
        self.attn = RotaryAttention(config.dim, config.heads)
        self.norm2 = nn.LayerNorm(config.dim, eps=NORM_EPS)
        self.mlp = FeedForward(config.dim, config.mlp_dim)

    def forward(self, x: TokenMap) -> TokenMap:
        """x: tokens of the whole grid, in either order; returns the same number of tokens."""
        x = x.cut(self.window)
        # In training, positions spanned one window; a global block spans the same angles.
        scale = 1.0 if self.window else self.window_size / x.height
        tokens = x.tokens + self.attn(self.norm1(x.tokens), scale)
        return x._replace(tokens=tokens + self.mlp(self.norm2(tokens)))


class PatchEmbed(nn.Module):
    """A projection of square patches that do not overlap."""

    def __init__(self, dim: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=patch_size, stride=patch_size, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        """image: [B, 3, S, S]; returns [B, S / patch_size, S / patch_size, dim]."""
        y: Tensor = self.proj(image.contiguous(memory_format=torch.channels_last)).permute(0, 2, 3, 1)
        return y


class VisionTransformer(nn.Module):
    """The trunk: one map at the stride of a patch."""

    def __init__(self, config: VisionTransformerConfig) -> None:
        super().__init__()
        self.pretrained_grid = config.pretrained_grid
        self.patch_embed = PatchEmbed(config.dim, config.patch_size)
        self.pos_embed = nn.Parameter(torch.zeros(1, config.pretrained_grid**2, config.dim))
        self.ln_pre = nn.LayerNorm(config.dim, eps=NORM_EPS)
        self.blocks = nn.ModuleList(
            Block(config, window=0 if index in config.global_attention_blocks else config.window_size)
            for index in range(config.depth)
        )
        self.pause = PausePoint()

    def position_embedding(self, side: int) -> Tensor:
        """The position embedding of a grid of side x side: [1, side, side, dim], tiled as in training."""
        grid = self.pretrained_grid
        tile: Tensor = self.pos_embed.unflatten(1, (grid, grid))
        repeats = -(-side // grid)
        return tile.tile(1, repeats, repeats, 1)[:, :side, :side]

    def forward(self, image: Tensor) -> Tensor:
        """image: [B, 3, S, S]; returns [B, dim, S / patch_size, S / patch_size]."""
        patches = self.patch_embed(image)
        side = patches.shape[1]
        x = TokenMap(self.ln_pre(patches + self.position_embedding(side)), side, side)
        for block in self.blocks:
            x = block(x)
            self.pause()
        return x.cut(0).tokens.permute(0, 3, 1, 2)
