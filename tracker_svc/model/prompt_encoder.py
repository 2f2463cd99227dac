"""Prompt encoder: points, boxes and masks to embeddings.

Source: Kirillov et al., "Segment Anything" (2023), unchanged in SAM 2.  A box is encoded as two points with
separate labels, so a prompt can combine a box with points.
"""

from enum import IntEnum
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tracker_svc.model.layers import LayerNorm2d
from tracker_svc.model.position_encoding import RandomPositionEncoding

# Channels of a mask prompt before its projection to the width of the embedding.
MASK_DIM = 16


class PointLabel(IntEnum):
    """Labels of points; the values are those with which the checkpoints were trained."""

    PADDING = -1
    NEGATIVE = 0
    POSITIVE = 1
    BOX_TOP_LEFT = 2
    BOX_BOTTOM_RIGHT = 3


class PromptEmbeddings(NamedTuple):
    """Prompts at the input of the mask decoder; E is the side of the embedding's grid."""

    sparse_embeddings: Tensor  # [B, N + 1, C], a padding point last; [B, 0, C] without points
    dense_embeddings: Tensor  # [B, C, E, E]


class PromptEncoder(nn.Module):
    """Embeds the prompts of B objects for images of ``image_size`` x ``image_size`` pixels.

    ``embedding_size`` is the side of the embedding's grid, E.
    """

    def __init__(self, embed_dim: int, image_size: int, embedding_size: int) -> None:
        super().__init__()
        self.image_size = image_size
        self.embedding_size = embedding_size
        self.pe_layer = RandomPositionEncoding(embed_dim)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, embed_dim) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, embed_dim)
        self.no_mask_embed = nn.Embedding(1, embed_dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, MASK_DIM // 4, kernel_size=2, stride=2),
            LayerNorm2d(MASK_DIM // 4),
            nn.GELU(),
            nn.Conv2d(MASK_DIM // 4, MASK_DIM, kernel_size=2, stride=2),
            LayerNorm2d(MASK_DIM),
            nn.GELU(),
            nn.Conv2d(MASK_DIM, embed_dim, kernel_size=1),
        )

    def forward(
        self, point_coords: Tensor, point_labels: Tensor, mask_input: Tensor | None = None
    ) -> PromptEmbeddings:
        """Embed points and an optional mask.

        point_coords: [B, N, 2], xy in pixels of the model's input; N may be 0.
        point_labels: [B, N], integers of :class:`PointLabel`.
        mask_input: [B, 1, 4 E, 4 E] logits, or None.
        """
        return PromptEmbeddings(
            self._embed_points(point_coords, point_labels),
            self._embed_mask(mask_input, point_coords.shape[0]),
        )

    def image_positions(self) -> Tensor:
        """The position encoding of the image grid: [1, C, E, E]."""
        return self.pe_layer.grid(self.embedding_size, self.embedding_size)

    def _embed_points(self, coords: Tensor, labels: Tensor) -> Tensor:
        if not coords.shape[1]:
            return coords.new_zeros(coords.shape[0], 0, self.no_mask_embed.embedding_dim)
        # Coordinates are those of pixels, and the encoding uses the pixel centres.  The position of the
        # padding point is dropped below.
        centres = F.pad(coords + 0.5, (0, 0, 0, 1))
        labels = F.pad(labels, (0, 1), value=PointLabel.PADDING)[..., None]
        embedded: Tensor = self.pe_layer(centres / self.image_size)
        embedded = torch.where(labels == PointLabel.PADDING, 0.0, embedded)
        embedded = embedded + (labels == PointLabel.PADDING) * self.not_a_point_embed.weight
        for label, embedding in enumerate(self.point_embeddings):
            assert isinstance(embedding, nn.Embedding)
            embedded = embedded + (labels == label) * embedding.weight
        return embedded

    def _embed_mask(self, mask_input: Tensor | None, batch: int) -> Tensor:
        if mask_input is None:
            size = (self.embedding_size, self.embedding_size)
            return self.no_mask_embed.weight.view(1, -1, 1, 1).expand(batch, -1, *size)
        embedded: Tensor = self.mask_downscaling(mask_input.to(self.no_mask_embed.weight.dtype))
        return embedded
