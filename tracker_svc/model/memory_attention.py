"""Memory attention: conditions a frame's embedding on the memories and pointers of objects.

Source: Ravi et al., "SAM 2" (2024).  A frame attends to itself, then to the memories, layer by layer.  The
self-attention of the first layer and the queries after it depend on the frame alone, so they are computed
once for all objects and batches.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskmesh.nn.amx import kernel
from maskmesh.nn.attention import attend_in_blocks, fits_kernel
from maskmesh.nn.preemption import PausePoint
from tracker_svc.model.layers import Attention
from tracker_svc.model.rope import Rotation, axial_rotation, rotate, rotate_grids

# Weight of the frame's position encoding at the input, as in training.
POSITION_WEIGHT = 0.1

# Queries that the AMX kernel computes between two pause points: a few milliseconds of work.
QUERIES_PER_PAUSE = 1024

Grid: TypeAlias = tuple[int, int]  # height and width


class SpatialMemory(NamedTuple):
    """One memory of one object, and the index of its temporal embedding."""

    features: Tensor  # [memory_dim, E, E]
    slot: int  # 0 for the frame just before, up to 5; 6 for conditioning frames


class Pointer(NamedTuple):
    """One pointer of one object, and its distance to the current frame in frames."""

    object_pointer: Tensor  # [C]
    frames_before: int


class Memories(NamedTuple):
    """The memories and pointers of one object that condition one frame."""

    spatial: Sequence[SpatialMemory]
    pointers: Sequence[Pointer]


class MemoryTokens(NamedTuple):
    """The memory tokens of B objects: the grids of their memories, then their object pointers."""

    tokens: Tensor  # [B, memory_dim, M]
    with_positions: Tensor  # [B, memory_dim, M], with the encodings of space and time added
    num_pointer_tokens: int  # tokens at the end that have no position in a grid


class FrameQueries(NamedTuple):
    """The part of memory attention that depends on F frames alone."""

    tokens: Tensor  # [F, HW, C], after the first self-attention
    queries: Tensor  # [F, HW, C], of the first attention to memory
    grid: Grid

    def rows(self, indices: Sequence[int]) -> "FrameQueries":
        """Select the frame of each row of a batch; a single frame is broadcast to all rows."""
        if len(self.tokens) == 1:
            return self
        return FrameQueries(self.tokens[indices], self.queries[indices], self.grid)


class RopeAttention(Attention):
    """Attention with one head whose queries are rotated by their position in a grid."""

    def __init__(self, dim: int, *, key_dim: int | None = None) -> None:
        super().__init__(dim, heads=1, key_dim=key_dim)

    def grid_queries(self, x: Tensor, grid: Grid) -> Tensor:
        """x: [B, HW, C]; returns rotated queries [B, HW, C]."""
        return rotate(self.q_proj, x, axial_rotation(grid, x.shape[-1], x.device, x.dtype))


class GridSelfAttention(RopeAttention):
    """Attention of a grid to itself."""

    def forward(self, x: Tensor, grid: Grid) -> Tensor:  # type: ignore[override]
        """x: [B, HW, C]; returns the same shape."""
        keys = rotate(self.k_proj, x, axial_rotation(grid, x.shape[-1], x.device, x.dtype))
        return self.attend(self.split_heads(self.grid_queries(x, grid)), self.split_heads(keys), x)


class MemoryCrossAttention(RopeAttention):
    """Attention of a grid to the memories of objects."""

    def __init__(self, dim: int, *, memory_dim: int) -> None:
        super().__init__(dim, key_dim=memory_dim)
        self.pause = PausePoint()

    def forward(self, queries: Tensor, memories: MemoryTokens, grid: Grid) -> Tensor:  # type: ignore[override]
        """queries: [B, HW, C], rotated; returns [B, HW, C]."""
        tokens, dim = memories.tokens, queries.shape[-1]
        rotation = axial_rotation(grid, dim, tokens.device, tokens.dtype, channels_first=True)
        num_pointer_tokens = memories.num_pointer_tokens
        # Objects are processed one at a time, because the keys of one object take megabytes.
        if tokens.device.type == "cpu" and not torch.is_grad_enabled():
            attended = [
                self._attend_to_object(*row, rotation, num_pointer_tokens)
                for row in zip(queries, tokens, memories.with_positions, strict=True)
            ]
            y: Tensor = self.out_proj(self.v_proj(torch.stack(attended)))
            return y
        keys = [
            rotate_grids(self.k_proj, with_positions, rotation, num_pointer_tokens=num_pointer_tokens)
            for with_positions in memories.with_positions
        ]
        rows = torch.stack(keys).transpose(1, 2).contiguous()
        return self.attend(self.split_heads(queries), self.split_heads(rows), tokens.transpose(1, 2))

    def _attend_to_object(
        self,
        query: Tensor,
        memory: Tensor,
        with_positions: Tensor,
        rotation: Rotation,
        num_pointer_tokens: int,
    ) -> Tensor:
        """The weighted sum of one object's memories, before the value projection; without gradients.

        The projection is linear, so it may follow the sum, which has a quarter of its output channels.
        query: [N, D]; memory, with_positions: [C, M]; returns [N, C].
        """
        (width, count), positions = memory.shape, rotation.cos.shape[1]
        if not (fits_kernel(query) and kernel.can_pack_memories(query.shape[-1], width, positions)):
            keys = rotate_grids(self.k_proj, with_positions, rotation, num_pointer_tokens=num_pointer_tokens)
            return attend_in_blocks(query, keys, memory.T, self.pause)
        threads = torch.get_num_threads()
        packed = memory.new_empty(kernel.packed_size(count, query.shape[-1], width))
        kernel.pack_memories(
            with_positions,
            memory,
            weight=self.k_proj.weight,
            bias=self.k_proj.bias,
            cosines=rotation.cos,
            sines=rotation.sin,
            num_pointer_tokens=num_pointer_tokens,
            packed=packed,
            threads=threads,
        )
        attended = query.new_empty(len(query), width)
        for start in range(0, len(query), QUERIES_PER_PAUSE):
            rows = slice(start, start + QUERIES_PER_PAUSE)
            kernel.attend_packed(query[rows], packed, attended[rows], keys=count, threads=threads)
            self.pause()
        return attended


class MemoryAttentionLayer(nn.Module):
    """Self-attention, cross-attention to memory and an MLP, each after a layer normalisation."""

    def __init__(self, dim: int, *, memory_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.self_attn = GridSelfAttention(dim)
        self.cross_attn_image = MemoryCrossAttention(dim, memory_dim=memory_dim)
        self.linear1 = nn.Linear(dim, hidden_dim)
        self.linear2 = nn.Linear(hidden_dim, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)

    def frame_queries(self, x: Tensor, grid: Grid) -> FrameQueries:
        """Compute the part of the layer before the attention to memory.  x: [B, HW, C]."""
        x = x + self.self_attn(self.norm1(x), grid)
        return FrameQueries(x, self.cross_attn_image.grid_queries(self.norm2(x), grid), grid)

    def forward(self, frame: FrameQueries, memories: MemoryTokens) -> Tensor:
        """Compute the rest of the layer; returns [B, HW, C]."""
        x = frame.tokens + self.cross_attn_image(frame.queries, memories, frame.grid)
        y: Tensor = x + self.linear2(F.relu(self.linear1(self.norm3(x))))
        return y


class MemoryAttention(nn.Module):
    """The stack of memory attention layers."""

    def __init__(self, dim: int, *, memory_dim: int, layers: int, hidden_dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            MemoryAttentionLayer(dim, memory_dim=memory_dim, hidden_dim=hidden_dim) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.pause = PausePoint()

    def prepare(self, image_embedding: Tensor, image_positions: Tensor) -> FrameQueries:
        """Compute the part that depends on frames alone.

        image_embedding: [F, C, H, W]; image_positions: [1, C, H, W], fixed sines.
        """
        grid: Grid = (image_embedding.shape[-2], image_embedding.shape[-1])
        x = (image_embedding + POSITION_WEIGHT * image_positions).flatten(2).transpose(1, 2)
        first = self.layers[0]
        assert isinstance(first, MemoryAttentionLayer)
        return first.frame_queries(x, grid)

    def forward(self, frame: FrameQueries, memories: MemoryTokens) -> Tensor:
        """Condition one frame, or one for each object, on the memories of B objects.

        Returns [B, C, H, W].
        """
        batch, grid = len(memories.tokens), frame.grid
        frame = FrameQueries(frame.tokens.expand(batch, -1, -1), frame.queries.expand(batch, -1, -1), grid)
        x = frame.tokens
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, MemoryAttentionLayer)
            if index > 0:
                frame = layer.frame_queries(x, grid)
            x = layer(frame, memories)
            self.pause()
        conditioned: Tensor = self.norm(x).transpose(1, 2).unflatten(-1, grid)
        return conditioned
