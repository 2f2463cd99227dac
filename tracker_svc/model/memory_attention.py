"""Memory attention: conditions a frame's embedding on the memories and pointers of objects.

Source: Ravi et al., "SAM 2" (2024).  A frame attends to itself, then to the memories, layer by layer.  The
self-attention of the first layer, and the queries after it, have seen no memory yet: they depend on the
frame alone and are made once, however many objects and batches follow.
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from tracker_svc.model.layers import Attention
from tracker_svc.model.rope import axial_rotation, rotate

# The weight of the frame's own position encoding at the input, as trained.
POSITION_WEIGHT = 0.1


class RopeSelfAttention(Attention):
    """Self-attention of a grid, positions by rotation."""

    def forward_grid(self, x: Tensor, height: int, width: int) -> Tensor:
        """x: [B, height * width, C]; returns the same shape."""
        rotation = axial_rotation(height, width, self.q_proj.out_features // self.heads, x.device)
        query = rotate(self.split_heads(self.q_proj(x)), rotation)
        key = rotate(self.split_heads(self.k_proj(x)), rotation)
        return self.attend(query, key, x)


class RopeCrossAttention(Attention):
    """Attention of a grid to several grids of memories, and to pointers, which have no place in it."""

    def grid_queries(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """x: [B, HW, C]; returns rotated queries [B, heads, HW, C / heads]."""
        rotation = axial_rotation(*grid, self.q_proj.out_features // self.heads, x.device)
        return rotate(self.split_heads(self.q_proj(x)), rotation)

    def forward_memory(
        self,
        queries: Tensor,
        memory: Tensor,
        memory_positions: Tensor,
        *,
        grid: tuple[int, int],
        pointers: int,
    ) -> Tensor:
        """Attend to the memory.

        queries: [B, heads, HW, C / heads]; memory, memory_positions: [B, M, memory_dim], of which the
        last ``pointers`` tokens are not rotated; returns [B, HW, C].
        """
        rotation = axial_rotation(*grid, self.q_proj.out_features // self.heads, memory.device)
        key = self.split_heads(self.k_proj(memory + memory_positions))
        spatial = key.shape[-2] - pointers
        key[..., :spatial, :] = rotate(key[..., :spatial, :], rotation)
        return self.attend(queries, key, memory)


class FrameQueries(NamedTuple):
    """What memory attention makes of a frame before it sees any memory."""

    tokens: Tensor  # [1, HW, C], after the first self-attention
    queries: Tensor  # [1, heads, HW, C / heads], of the first attention to memory
    grid: tuple[int, int]


class MemoryAttentionLayer(nn.Module):
    """Self-attention, cross-attention to memory and an MLP, each with its norm before it."""

    def __init__(self, dim: int, *, memory_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.self_attn = RopeSelfAttention(dim, heads=1)
        self.cross_attn_image = RopeCrossAttention(dim, heads=1, key_dim=memory_dim)
        self.linear1 = nn.Linear(dim, hidden_dim)
        self.linear2 = nn.Linear(hidden_dim, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)

    def attend_to_self(self, x: Tensor, height: int, width: int) -> Tensor:
        """x: [B, height * width, C]; returns the same shape."""
        return x + self.self_attn.forward_grid(self.norm1(x), height, width)

    def memory_queries(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """x: [B, HW, C]; returns the queries of the attention to memory."""
        return self.cross_attn_image.grid_queries(self.norm2(x), grid)

    def attend_to_memory(
        self,
        x: Tensor,
        queries: Tensor,
        memory: Tensor,
        memory_positions: Tensor,
        *,
        grid: tuple[int, int],
        pointers: int,
    ) -> Tensor:
        """The rest of the layer; shapes as in :meth:`RopeCrossAttention.forward_memory`."""
        x = x + self.cross_attn_image.forward_memory(
            queries, memory, memory_positions, grid=grid, pointers=pointers
        )
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
        """What depends on the frame alone; image_embedding, image_positions: [1, C, H, W].

        The positions are fixed sines.
        """
        height, width = image_embedding.shape[-2:]
        x = (image_embedding + POSITION_WEIGHT * image_positions).flatten(2).transpose(1, 2)
        first = self.layers[0]
        assert isinstance(first, MemoryAttentionLayer)
        x = first.attend_to_self(x, height, width)
        return FrameQueries(x, first.memory_queries(x, (height, width)), (height, width))

    def forward(
        self, frame: FrameQueries, memory: Tensor, memory_positions: Tensor, *, pointer_tokens: int
    ) -> Tensor:
        """Condition one frame on the memories of B objects.

        memory, memory_positions: [B, M, memory_dim]: whole grids of H * W tokens one after the other,
        then ``pointer_tokens`` tokens of object pointers.  Returns [B, C, H, W].
        """
        x = frame.tokens.expand(memory.shape[0], -1, -1)
        queries = frame.queries.expand(memory.shape[0], -1, -1, -1)
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, MemoryAttentionLayer)
            if index > 0:
                x = layer.attend_to_self(x, *frame.grid)
                queries = layer.memory_queries(x, frame.grid)
            x = layer.attend_to_memory(
                x, queries, memory, memory_positions, grid=frame.grid, pointers=pointer_tokens
            )
        conditioned: Tensor = self.norm(x).transpose(1, 2).unflatten(-1, frame.grid)
        return conditioned
