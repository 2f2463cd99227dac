"""The exemplar encoder: from boxes on an image to tokens that describe what the boxes show.

Source: Carion et al., "SAM 3: Segment Anything with Concepts" (2025).  The checkpoint also has projections
of points, which its published models do not use.
"""

import torch
from torch import Tensor, nn

from tracker_svc.model.config import DetectorConfig
from tracker_svc.model.detection.layers import FusionLayer, corners, sine_encoding
from tracker_svc.model.detection.roi_align import roi_align

POOLED_SIZE = 7


class ExemplarEncoder(nn.Module):
    """Encodes the exemplar boxes of one concept.  A class token follows them, also without any box."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        dim = config.dim
        self.label_embed = nn.Embedding(2, dim)
        self.cls_embed = nn.Embedding(1, dim)
        self.boxes_direct_project = nn.Linear(4, dim)
        self.boxes_pool_project = nn.Conv2d(dim, dim, kernel_size=POOLED_SIZE)
        self.boxes_pos_enc_project = nn.Linear(dim + 2, dim)
        self.img_pre_norm = nn.LayerNorm(dim)
        self.final_proj = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.encode = nn.ModuleList(
            FusionLayer(dim, heads=config.heads, hidden_dim=config.hidden_dim)
            for _ in range(config.exemplar_layers)
        )
        self.encode_norm = nn.LayerNorm(dim)

    def forward(self, image: Tensor, positions: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        """Encode the boxes of one concept on one image.

        image, positions: [1, dim, E, E], the coarse map of the detector's neck and its position encoding.
        boxes: [N, 4], centre, width and height, 0 to 1; labels: [N], 1 for an example of the concept and 0
        for a counterexample.  N may be 0.  Returns [1, N + 1, dim], the class token last.
        """
        tokens = torch.cat((self._box_tokens(image, boxes, labels), self.cls_embed.weight))[None]
        tokens = self.norm(self.final_proj(tokens))
        values = image.flatten(2).transpose(1, 2)
        keys = values + positions.flatten(2).transpose(1, 2)
        for layer in self.encode:
            assert isinstance(layer, FusionLayer)
            tokens = layer.attend_to_other(layer.attend_to_self(tokens), keys, values)
        y: Tensor = self.encode_norm(tokens)
        return y

    def pool(self, image: Tensor, boxes: Tensor) -> Tensor:
        """The part of the normalised image in each box: [N, dim, POOLED_SIZE, POOLED_SIZE]."""
        normed = self.img_pre_norm(image[0].permute(1, 2, 0)).permute(2, 0, 1)
        pooled: Tensor = roi_align(normed, corners(boxes.float()) * image.shape[-1], POOLED_SIZE)
        return pooled

    def _box_tokens(self, image: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        """Returns [N, dim]."""
        dtype = image.dtype
        if not len(boxes):
            return image.new_zeros(0, image.shape[1])
        pooled = self.boxes_pool_project(self.pool(image, boxes)).flatten(1)
        x, y, width, height = boxes.float().unbind(-1)
        half = image.shape[1] // 2
        placed = torch.cat(
            (sine_encoding(y, half), sine_encoding(x, half), height[:, None], width[:, None]), dim=-1
        )
        tokens: Tensor = self.label_embed(labels) + self.boxes_direct_project(boxes.to(dtype))
        tokens += pooled + self.boxes_pos_enc_project(placed.to(dtype))
        return tokens
