"""The query decoder: learned queries that become the boxes and scores of instances.

Source: Carion et al., "SAM 3: Segment Anything with Concepts" (2025); boxes are refined layer by layer as in
Zhu et al., "Deformable DETR" (2021), and attention to the image has the relative position bias of Lin et
al., "DETR Does Not Need Multi-Scale or Locality Design" (2023).
"""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskmesh.nn.layers import MLP
from maskmesh.nn.preemption import PausePoint
from tracker_svc.model.config import DetectorConfig
from tracker_svc.model.detection.fusion_encoder import ConceptPrompts
from tracker_svc.model.detection.layers import MultiHeadAttention, corners, inverse_sigmoid, sine_encoding

# Scale of distances before their logarithm, and the distance that becomes 1.
BIAS_SCALE = 8.0


class DecodedQueries(NamedTuple):
    """The Q queries of B concepts after the last layer."""

    queries: Tensor  # [B, Q, dim], normalised
    boxes: Tensor  # [B, Q, 4], centre, width and height, 0 to 1, float32
    presence_logits: Tensor  # [B], above zero if the concept is on the image, float32


class QueryDecoderLayer(nn.Module):
    """Attention of the queries to themselves, to the prompt and to the image, and a feed-forward network,
    each followed by a layer normalisation.
    """

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        dim = config.dim
        self.self_attn = MultiHeadAttention(dim, config.heads)
        self.norm2 = nn.LayerNorm(dim)
        self.ca_text = MultiHeadAttention(dim, config.heads)
        self.catext_norm = nn.LayerNorm(dim)
        self.cross_attn = MultiHeadAttention(dim, config.heads)
        self.norm1 = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, config.hidden_dim)
        self.linear2 = nn.Linear(config.hidden_dim, dim)
        self.norm3 = nn.LayerNorm(dim)

    def forward(
        self,
        x: Tensor,
        query_positions: Tensor,
        prompts: ConceptPrompts,
        image: tuple[Tensor, Tensor],
        bias: Tensor,
    ) -> Tensor:
        """x, query_positions: [B, 1 + Q, dim]; image: keys and values [B, E * E, dim].

        bias: [B, heads, 1 + Q, E * E]; returns [B, 1 + Q, dim].
        """
        placed = x + query_positions
        x = self.norm2(x + self.self_attn(placed, placed, x))
        words = prompts.tokens
        x = self.catext_norm(x + self.ca_text(x + query_positions, words, words, prompts.attention_mask))
        x = self.norm1(x + self.cross_attn(x + query_positions, *image, bias))
        y: Tensor = self.norm3(x + self.linear2(F.relu(self.linear1(x))))
        return y


class QueryDecoder(nn.Module):
    """The stack of decoder layers, with a presence token before the queries."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        dim = config.dim
        self.dim = dim
        self.layers = nn.ModuleList(QueryDecoderLayer(config) for _ in range(config.decoder_layers))
        self.norm = nn.LayerNorm(dim)
        self.bbox_embed = MLP(dim, dim, 4, depth=3)
        self.query_embed = nn.Embedding(config.queries, dim)
        self.reference_points = nn.Embedding(config.queries, 4)
        self.boxRPB_embed_x = MLP(2, dim, config.heads, depth=2)
        self.boxRPB_embed_y = MLP(2, dim, config.heads, depth=2)
        self.presence_token = nn.Embedding(1, dim)
        self.presence_token_head = MLP(dim, dim, 1, depth=3)
        self.presence_token_out_norm = nn.LayerNorm(dim)
        self.ref_point_head = MLP(2 * dim, dim, dim, depth=2)
        self.pause = PausePoint()

    def forward(self, image: Tensor, positions: Tensor, prompts: ConceptPrompts) -> DecodedQueries:
        """image: [B, E * E, dim], from the fusion encoder; positions: [1, E * E, dim]."""
        batch, dtype = len(image), image.dtype
        learned = torch.cat((self.presence_token.weight, self.query_embed.weight))
        x = learned.expand(batch, -1, -1)
        boxes = self.reference_points.weight.float().sigmoid().expand(batch, -1, -1)
        keys = image + positions
        for layer in self.layers:
            placed = self.ref_point_head(self._encode_boxes(boxes).to(dtype))
            bias = F.pad(self.position_bias(boxes, math.isqrt(image.shape[1])), (0, 0, 1, 0))
            x = layer(x, F.pad(placed, (0, 0, 1, 0)), prompts, (keys, image), bias)
            queries = self.norm(x[:, 1:])
            boxes = (self.bbox_embed(queries).float() + inverse_sigmoid(boxes)).sigmoid()
            self.pause()
        presence = self.presence_token_head(self.presence_token_out_norm(x[:, 0]))
        return DecodedQueries(queries, boxes, presence[:, 0].float())

    def position_bias(self, boxes: Tensor, side: int) -> Tensor:
        """The bias of the attention logits: from the distances of each row and column of the map to the
        edges of each box.

        boxes: [B, Q, 4]; returns [B, heads, Q, side * side] in the type of the weights.
        """
        edges = corners(boxes)
        grid = _grid(side, boxes.device)
        dtype = self.norm.weight.dtype
        along_x, along_y = (
            embed(_log_distance(grid[:, None] - edges[..., None, axis::2]).to(dtype))
            for axis, embed in enumerate((self.boxRPB_embed_x, self.boxRPB_embed_y))
        )
        # [B, Q, side, heads] each
        rows, columns = (x.permute(0, 3, 1, 2) for x in (along_y, along_x))
        y: Tensor = (rows[..., None] + columns[..., None, :]).flatten(-2)
        return y

    def _encode_boxes(self, boxes: Tensor) -> Tensor:
        """boxes: [B, Q, 4]; returns [B, Q, 2 * dim], float32."""
        x, y, width, height = boxes.unbind(-1)
        return torch.cat([sine_encoding(v, self.dim // 2) for v in (y, x, width, height)], dim=-1)


@lru_cache(maxsize=8)
def _grid(side: int, device: torch.device) -> Tensor:
    """The positions of the rows or columns of a map, 0 to 1; cached, must not be modified."""
    return torch.arange(side, dtype=torch.float32, device=device) / side


def _log_distance(distance: Tensor) -> Tensor:
    scaled = distance * BIAS_SCALE
    return scaled.sign() * torch.log2(scaled.abs() + 1.0) / math.log2(BIAS_SCALE)
