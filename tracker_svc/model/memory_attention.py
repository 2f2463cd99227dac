"""Memory attention: conditions a frame's embedding on the memories and pointers of objects.

Source: Ravi et al., "SAM 2" (2024).  A frame attends to itself, then to the memories, layer by layer.  The
self-attention of the first layer, and the queries after it, have seen no memory yet: they depend on the
frame alone and are made once, however many objects and batches follow.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tracker_svc.model.attention import attend_to_memories
from tracker_svc.model.layers import Attention
from tracker_svc.model.rope import axial_rotation, turned, rotate_grids

# The weight of the frame's own position encoding at the input, as trained.
POSITION_WEIGHT = 0.1

Grid: TypeAlias = tuple[int, int]  # height and width

# Called wherever the work can be left for a while.
Pause: TypeAlias = Callable[[], object]


def go_on() -> None:
    """The pause of whoever is not to be interrupted."""


class MemoryTokens(NamedTuple):
    """What B objects remember: whole grids of tokens one after the other, then pointers."""

    tokens: Tensor  # [B, memory_dim, M]
    with_positions: Tensor  # [B, memory_dim, M], with the positions of the tokens in grids and in time
    pointers: int  # how many tokens at the end have no place in a grid


class RopeAttention(Attention):
    """Attention of a grid, positions by rotation; with one head."""

    def __init__(self, dim: int, *, key_dim: int | None = None) -> None:
        super().__init__(dim, heads=1, key_dim=key_dim)

    def grid_queries(self, x: Tensor, grid: Grid) -> Tensor:
        """x: [B, HW, C]; returns turned queries [B, HW, C]."""
        return turned(self.q_proj, x, axial_rotation(grid, x.shape[-1], x.device, x.dtype))

    def forward_grid(self, x: Tensor, grid: Grid) -> Tensor:
        """Attend to the grid itself.  x: [B, HW, C]; returns the same shape."""
        keys = turned(self.k_proj, x, axial_rotation(grid, x.shape[-1], x.device, x.dtype))
        return self.attend(self.split_heads(self.grid_queries(x, grid)), self.split_heads(keys), x)

    def forward_memory(self, queries: Tensor, memories: MemoryTokens, grid: Grid, *, pause: Pause) -> Tensor:
        """Attend to the memories of B objects.

        queries: [B, HW, C], turned; returns [B, HW, C].
        """
        tokens, dim = memories.tokens, queries.shape[-1]
        rotation = axial_rotation(grid, dim, tokens.device, tokens.dtype, channels_first=True)
        # One object after the other: the keys of one are megabytes.
        if tokens.device.type == "cpu" and not torch.is_grad_enabled():
            means = [
                attend_to_memories(
                    *one, key_layer=self.k_proj, rotation=rotation, num_pointer_tokens=memories.pointers, pause=pause
                )
                for one in zip(queries, tokens, memories.with_positions, strict=True)
            ]
            y: Tensor = self.out_proj(self.v_proj(torch.stack(means)))
            return y
        keys = [
            rotate_grids(self.k_proj, with_positions, rotation, num_pointer_tokens=memories.pointers)
            for with_positions in memories.with_positions
        ]
        rows = torch.stack(keys).transpose(1, 2).contiguous()
        return self.attend(self.split_heads(queries), self.split_heads(rows), tokens.transpose(1, 2))


class FrameQueries(NamedTuple):
    """What memory attention makes of a frame before it sees any memory."""

    tokens: Tensor  # [F, HW, C], after the first self-attention; of F frames
    queries: Tensor  # [F, HW, C], of the first attention to memory
    grid: Grid

    def rows(self, at: Sequence[int]) -> "FrameQueries":
        """Those of the frame of each row; one frame is shared by all rows."""
        if len(self.tokens) == 1:
            return self
        return FrameQueries(self.tokens[at], self.queries[at], self.grid)


class MemoryAttentionLayer(nn.Module):
    """Self-attention, cross-attention to memory and an MLP, each with its norm before it."""

    def __init__(self, dim: int, *, memory_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.self_attn = RopeAttention(dim)
        self.cross_attn_image = RopeAttention(dim, key_dim=memory_dim)
        self.linear1 = nn.Linear(dim, hidden_dim)
        self.linear2 = nn.Linear(hidden_dim, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)

    def attend_to_self(self, x: Tensor, grid: Grid) -> Tensor:
        """x: [B, HW, C]; returns the same shape."""
        return x + self.self_attn.forward_grid(self.norm1(x), grid)

    def memory_queries(self, x: Tensor, grid: Grid) -> Tensor:
        """x: [B, HW, C]; returns the queries of the attention to memory."""
        return self.cross_attn_image.grid_queries(self.norm2(x), grid)

    def attend_to_memory(
        self, x: Tensor, queries: Tensor, memories: MemoryTokens, grid: Grid, *, pause: Pause
    ) -> Tensor:
        """The rest of the layer.  x, queries: [B, HW, C]; returns the same shape."""
        x = x + self.cross_attn_image.forward_memory(queries, memories, grid, pause=pause)
        y: Tensor = x + self.linear2(F.relu(self.linear1(self.norm3(x))))
        return y


class MemoryAttention(nn.Module):
    """The stack of layers."""

    def __init__(self, dim: int, *, memory_dim: int, layers: int, hidden_dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            MemoryAttentionLayer(dim, memory_dim=memory_dim, hidden_dim=hidden_dim) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)

    def prepare(self, image_embedding: Tensor, image_positions: Tensor) -> FrameQueries:
        """What depends on frames alone; image_embedding: [F, C, H, W]; image_positions: [1, C, H, W].

        The positions are fixed sines.
        """
        grid: Grid = (image_embedding.shape[-2], image_embedding.shape[-1])
        x = (image_embedding + POSITION_WEIGHT * image_positions).flatten(2).transpose(1, 2)
        first = self.layers[0]
        assert isinstance(first, MemoryAttentionLayer)
        x = first.attend_to_self(x, grid)
        return FrameQueries(x, first.memory_queries(x, grid), grid)

    def forward(self, frame: FrameQueries, memories: MemoryTokens, *, pause: Pause = go_on) -> Tensor:
        """Condition one frame, or one for each object, on the memories of B objects.

        Returns [B, C, H, W].
        """
        batch = len(memories.tokens)
        x = frame.tokens.expand(batch, -1, -1)
        queries = frame.queries.expand(batch, -1, -1)
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, MemoryAttentionLayer)
            if index > 0:
                x = layer.attend_to_self(x, frame.grid)
                queries = layer.memory_queries(x, frame.grid)
            x = layer.attend_to_memory(x, queries, memories, frame.grid, pause=pause)
            pause()
        conditioned: Tensor = self.norm(x).transpose(1, 2).unflatten(-1, frame.grid)
        return conditioned
