"""Prompt encoder: points, boxes and masks to embeddings.

Source: Kirillov et al., "Segment Anything" (2023), as kept by SAM 2.  A box is two points with labels of
their own, so boxes and points mix freely.
"""

from enum import IntEnum
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tracker_svc.model.layers import LayerNorm2d
from tracker_svc.model.position_encoding import RandomPositionEncoding


class PointLabel(IntEnum):
    """What a point says, by the numbers that the checkpoints were trained with."""

    PADDING = -1
    NEGATIVE = 0
    POSITIVE = 1
    BOX_TOP_LEFT = 2
    BOX_BOTTOM_RIGHT = 3


class PromptEmbeddings(NamedTuple):
    """Prompts as the mask decoder reads them; E is S / 16 for an image of S x S."""

    sparse_embeddings: Tensor  # [B, N + 1, C], a padding point last; [B, 0, C] without points
    dense_embeddings: Tensor  # [B, C, E, E]


class PromptEncoder(nn.Module):
    """Embeds the prompts of B objects for images of ``image_size`` squared."""

    def __init__(self, embed_dim: int, image_size: int, *, mask_dim: int = 16) -> None:
        super().__init__()
        self.image_size = image_size
        self.embedding_size = image_size // 16
        self.pe_layer = RandomPositionEncoding(embed_dim)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, embed_dim) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, embed_dim)
        self.no_mask_embed = nn.Embedding(1, embed_dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, mask_dim // 4, kernel_size=2, stride=2),
            LayerNorm2d(mask_dim // 4),
            nn.GELU(),
            nn.Conv2d(mask_dim // 4, mask_dim, kernel_size=2, stride=2),
            LayerNorm2d(mask_dim),
            nn.GELU(),
            nn.Conv2d(mask_dim, embed_dim, kernel_size=1),
        )

    def forward(
        self, point_coords: Tensor, point_labels: Tensor, mask_input: Tensor | None = None
    ) -> PromptEmbeddings:
        """Embed points and, where there is one, a mask.

        point_coords: [B, N, 2], xy in pixels of the model's input; N may be 0.
        point_labels: [B, N], integers of :class:`PointLabel`.
        mask_input: [B, 1, S / 4, S / 4] logits, or None.
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
        # Clicks name pixels; the encoding is of pixel centres.  The padding point is not shifted into
        # meaning anything: its position is dropped with its label.
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
