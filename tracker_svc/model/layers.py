"""Small layers that several stages share."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskmesh.nn.attention import attend


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of a map."""

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, C, H, W]; returns the same shape."""
        normed = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, self.eps)
        return normed.permute(0, 3, 1, 2)


class Attention(nn.Module):
    """Multi-head attention whose inner width may be smaller than that of its tokens.

    ``key_dim`` is the width of keys and values, ``dim`` by default.
    """

    def __init__(
        self, dim: int, *, heads: int, inner_dim: int | None = None, key_dim: int | None = None
    ) -> None:
        super().__init__()
        inner_dim, key_dim = inner_dim or dim, key_dim or dim
        if inner_dim % heads:
            raise ValueError("heads must divide inner_dim")
        self.heads = heads
        self.q_proj = nn.Linear(dim, inner_dim)
        self.k_proj = nn.Linear(key_dim, inner_dim)
        self.v_proj = nn.Linear(key_dim, inner_dim)
        self.out_proj = nn.Linear(inner_dim, dim)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """query: [B, N, dim]; key, value: [B, M, key_dim]; returns [B, N, dim]."""
        queries, keys = self.split_heads(self.q_proj(query)), self.split_heads(self.k_proj(key))
        return self.attend(queries, keys, value)

    def split_heads(self, x: Tensor) -> Tensor:
        """x: [B, N, inner_dim]; returns [B, N, heads, inner_dim / heads]."""
        heads: Tensor = x.unflatten(-1, (self.heads, -1))
        return heads

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend with queries and keys that are projected already.

        query, key: [B, N or M, heads, inner_dim / heads]; value: [B, M, key_dim], not yet projected.
        """
        attended = attend(query, key, self.split_heads(self.v_proj(value)))
        y: Tensor = self.out_proj(attended.flatten(-2))
        return y
