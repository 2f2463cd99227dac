"""Hiera, the trunk of the image encoder.

Source: Ryali et al., "Hiera: A Hierarchical Vision Transformer without the Bells-and-Whistles" (2023),
in the form that SAM 2 uses (Ravi et al., 2024): windowed position embeddings (Bolya et al., 2023), a few
blocks with global attention, and queries pooled by two in the first block of each later stage.  Attributes
have the names of the official checkpoints.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoder_svc.model.token_map import TokenMap, merge_windows, partition_windows
from maskmesh.nn.attention import attend
from maskmesh.nn.layers import MLP
from maskmesh.nn.preemption import PausePoint

POOL = 2  # stride of the queries, and factor by which windows shrink, in the first block of a later stage


def max_pool(x: Tensor) -> Tensor:
    """Halve x: [B, H, W, C] in height and width by taking maxima.

    Faster than torch's pooling, which also computes indices and copies the map into another layout.
    """
    rows = x.unflatten(1, (-1, POOL))
    halved = torch.maximum(rows[:, :, 0], rows[:, :, 1]).unflatten(2, (-1, POOL))
    return torch.maximum(halved[:, :, :, 0], halved[:, :, :, 1])


class MultiScaleAttention(nn.Module):
    """Self-attention within one window or the whole map; pools its queries if ``pool_queries``."""

    def __init__(self, dim: int, out_dim: int, *, heads: int, pool_queries: bool) -> None:
        super().__init__()
        self.heads = heads
        self.pool_queries = pool_queries
        self.qkv = nn.Linear(dim, 3 * out_dim)
        self.proj = nn.Linear(out_dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, H, W, dim]; returns [B, H, W, out_dim], or half the height and width if it pools."""
        batch, height, width, _ = x.shape
        query, key, value = self.qkv(x).chunk(3, dim=-1)
        if self.pool_queries:
            query = max_pool(query)
            height, width = query.shape[1:3]
        attended = attend(self._split_heads(query), self._split_heads(key), self._split_heads(value))
        y: Tensor = self.proj(attended.reshape(batch, height, width, -1))
        return y

    def _split_heads(self, x: Tensor) -> Tensor:
        """[B, H, W, C] to [B, H * W, heads, C / heads]."""
        return x.reshape(x.shape[0], -1, self.heads, x.shape[-1] // self.heads)


class MultiScaleBlock(nn.Module):
    """A transformer block; the first block of a later stage also doubles the channels and pools.

    ``window`` is the window size of its attention in patches of its input, 0 for the whole map.
    """

    def __init__(self, dim: int, out_dim: int, *, heads: int, window: int, pool_queries: bool) -> None:
        super().__init__()
        self.window = window
        self.pool_queries = pool_queries
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = MultiScaleAttention(dim, out_dim, heads=heads, pool_queries=pool_queries)
        self.norm2 = nn.LayerNorm(out_dim, eps=1e-6)
        self.mlp = MLP(out_dim, 4 * out_dim, out_dim, depth=2, activation=F.gelu)
        self.proj = nn.Linear(dim, out_dim) if dim != out_dim else None

    def forward(self, x: TokenMap) -> TokenMap:
        """x: tokens of ``dim``; returns tokens of ``out_dim``, half the height and width if it pools."""
        fits = not self.window or x.fits(self.window)
        if self.window and fits:
            x = x.cut(self.window)
        elif self.pool_queries or not fits:
            x = x.cut(0)
        normed = self.norm1(x.tokens)
        shortcut = x.tokens if self.proj is None else self.proj(normed)
        if self.pool_queries:
            shortcut = max_pool(shortcut)
        if not self.window:
            attended = self._attend_to_all(x._replace(tokens=normed))
        elif fits:
            attended = self.attn(normed)
        else:
            attended = self._attend_with_padding(x._replace(tokens=normed))
        tokens = shortcut + attended
        tokens = tokens + self.mlp(self.norm2(tokens))
        shrink = POOL if self.pool_queries else 1
        return TokenMap(tokens, x.height // shrink, x.width // shrink, x.window // shrink)

    def _attend_to_all(self, x: TokenMap) -> Tensor:
        """Attend to the whole map.  Attention does not depend on the order of tokens, but pooling does."""
        if self.pool_queries:
            pooled: Tensor = self.attn(x.tokens)
            return pooled
        attended: Tensor = self.attn(x.tokens.reshape(-1, 1, x.height * x.width, x.tokens.shape[-1]))
        return attended.view(*x.tokens.shape[:-1], -1)

    def _attend_with_padding(self, x: TokenMap) -> Tensor:
        """Attend within windows that do not fit: they are padded with zeros, which are attended to, as in
        training.
        """
        shrink = POOL if self.pool_queries else 1
        attended = self.attn(partition_windows(x.tokens, self.window))
        return merge_windows(attended, x.height // shrink, x.width // shrink)


class PatchEmbed(nn.Module):
    """Overlapping 7 x 7 patches with a stride of 4."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=7, stride=4, padding=3)

    def forward(self, image: Tensor) -> Tensor:
        """image: [B, 3, S, S]; returns [B, S / 4, S / 4, dim]."""
        # Channels last, so that tokens are a view of the map.
        y: Tensor = self.proj(image.contiguous(memory_format=torch.channels_last)).permute(0, 2, 3, 1)
        return y


class Hiera(nn.Module):
    """The trunk: four stages at strides 4, 8, 16 and 32, each twice as wide as the one before."""

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        stages: tuple[int, ...],
        global_attention_blocks: tuple[int, ...],
        window_sizes: tuple[int, ...],
        background_size: tuple[int, int],
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, dim, *background_size))
        self.pos_embed_window = nn.Parameter(torch.zeros(1, dim, window_sizes[0], window_sizes[0]))
        self.fixed_positions: Tensor | None
        self.register_buffer("fixed_positions", None, persistent=False)
        self.blocks = nn.ModuleList()
        self.pause = PausePoint()
        self.stage_ends: list[int] = []
        for stage, depth in enumerate(stages):
            for position in range(depth):
                begins_stage = stage > 0 and position == 0
                out_dim = dim * 2 if begins_stage else dim
                heads = heads * 2 if begins_stage else heads
                # A pooling block uses the window size of the previous stage.
                window = window_sizes[stage - 1 if begins_stage else stage]
                if len(self.blocks) in global_attention_blocks:
                    window = 0
                self.blocks.append(
                    MultiScaleBlock(dim, out_dim, heads=heads, window=window, pool_queries=begins_stage)
                )
                dim = out_dim
            self.stage_ends.append(len(self.blocks) - 1)

    def fix_positions(self, height: int, width: int) -> None:
        """Compute and store the position embedding of a grid; must be repeated if the weights change."""
        self.fixed_positions = self.position_embedding(height, width).contiguous()

    def position_embedding(self, height: int, width: int) -> Tensor:
        """The embedding of a grid of height x width patches: [1, height, width, dim]."""
        background = F.interpolate(self.pos_embed, size=(height, width), mode="bicubic")
        tile = self.pos_embed_window
        repeats = (-(-height // tile.shape[2]), -(-width // tile.shape[3]))
        tiled = tile.tile(1, 1, *repeats)[:, :, :height, :width]
        return (background + tiled).permute(0, 2, 3, 1)

    def forward(self, image: Tensor) -> list[Tensor]:
        """image: [B, 3, S, S]; returns maps [B, C, H, W] at strides 4, 8, 16, 32, the finest first."""
        patches = self.patch_embed(image)
        height, width = patches.shape[1:3]
        positions = self.fixed_positions
        if positions is None or positions.shape[1:3] != (height, width):
            positions = self.position_embedding(height, width)
        x = TokenMap(patches + positions, height, width)
        maps: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            self.pause()
            if index in self.stage_ends:
                maps.append(x.cut(0).tokens.permute(0, 3, 1, 2))
        return maps
