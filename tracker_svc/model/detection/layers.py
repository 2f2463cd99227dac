"""Layers that the parts of the concept detector share."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskmesh.nn.attention import attend

TEMPERATURE = 10000.0


class MultiHeadAttention(nn.Module):
    """Multi-head attention with the three input projections in one matrix, as in the checkpoint."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
        """query: [B, N, dim]; key, value: [B, M, dim]; returns [B, N, dim].

        ``bias`` is added to the attention logits, or is False where a key is not attended to; its shape is
        broadcast to [B, heads, N, M].
        """
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        queries, keys, values = (
            F.linear(x, w, b).unflatten(-1, (self.heads, -1))
            for x, w, b in zip((query, key, value), weights, biases, strict=True)
        )
        if bias is None:
            attended = attend(queries, keys, values)
        else:
            queries, keys, values = (x.transpose(1, 2) for x in (queries, keys, values))
            attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias).transpose(1, 2)
        y: Tensor = self.out_proj(attended.flatten(-2))
        return y


class FusionLayer(nn.Module):
    """Self-attention, cross-attention and a feed-forward network, each after a layer normalisation.

    The fusion encoder and the exemplar encoder consist of such layers.
    """

    def __init__(self, dim: int, *, heads: int, hidden_dim: int) -> None:
        super().__init__()
        self.self_attn = MultiHeadAttention(dim, heads)
        self.cross_attn_image = MultiHeadAttention(dim, heads)
        self.linear1 = nn.Linear(dim, hidden_dim)
        self.linear2 = nn.Linear(hidden_dim, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)

    def attend_to_self(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        """The first third of the layer.  x, positions: [B, N, dim]; positions are added to queries and
        keys.
        """
        normed = self.norm1(x)
        placed = normed if positions is None else normed + positions
        y: Tensor = x + self.self_attn(placed, placed, normed)
        return y

    def attend_to_other(self, x: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """The rest of the layer.  x: [B, N, dim]; key, value: [B, M, dim]; mask: [B, 1, 1, M] or None."""
        x = x + self.cross_attn_image(self.norm2(x), key, value, mask)
        y: Tensor = x + self.linear2(F.relu(self.linear1(self.norm3(x))))
        return y


def sine_encoding(values: Tensor, dim: int) -> Tensor:
    """Fixed sines of values between 0 and 1: [...] to [..., dim], sine and cosine alternating.

    Source: Vaswani et al. (2017), with 0 to 1 scaled to one turn as in Carion et al., "End-to-End Object
    Detection with Transformers" (2020).
    """
    pairs = torch.arange(dim // 2, dtype=torch.float32, device=values.device)
    angles = (values.float() * (2 * math.pi))[..., None] / TEMPERATURE ** (2 * pairs / dim)
    encoded: Tensor = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)
    return encoded


def inverse_sigmoid(x: Tensor, eps: float = 1e-3) -> Tensor:
    """The logit of a probability; numerator and denominator are at least ``eps``."""
    x = x.clamp(0, 1)
    return torch.log(x.clamp(min=eps) / (1 - x).clamp(min=eps))


def corners(boxes: Tensor) -> Tensor:
    """Boxes of centre, width and height to boxes of corners, [..., 4] both: x0, y0, x1, y1."""
    centre, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat((centre - size / 2, centre + size / 2), dim=-1)
