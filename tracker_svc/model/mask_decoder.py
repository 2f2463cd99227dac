"""Mask decoder: computes masks, their predicted IoU and the object score from image and prompt embeddings.

Source: Kirillov et al., "Segment Anything" (2023), with the object score and the high-resolution skip
connections of SAM 2 (Ravi et al., 2024).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskmesh.nn.layers import MLP
from tracker_svc.model.layers import LayerNorm2d
from tracker_svc.model.two_way_transformer import TwoWayTransformer

MULTIMASK_OUTPUTS = 3

# A single mask is stable if its areas above -STABILITY_DELTA and above STABILITY_DELTA are almost equal:
# their ratio is at least STABILITY_THRESHOLD.  If it is not stable, SAM 2 falls back to the best of the
# three masks.
STABILITY_DELTA = 0.05
STABILITY_THRESHOLD = 0.98


class DecodedMasks(NamedTuple):
    """M masks for each of B objects: three alternatives, or one."""

    low_res_masks: Tensor  # [B, M, S / 4, S / 4] logits
    iou_predictions: Tensor  # [B, M], 0 to 1
    mask_tokens: Tensor  # [B, M, C], from which object pointers are made (always the first for one mask)
    object_score_logits: Tensor  # [B, 1], above zero if the object is in sight


def stability_score(logits: Tensor, delta: float = STABILITY_DELTA) -> Tensor:
    """The area above +delta divided by the area above -delta.  logits: [B, M, H, W]; returns [B, M]."""
    inner = (logits > delta).sum(dim=(-1, -2)).float()
    outer = (logits > -delta).sum(dim=(-1, -2)).float()
    return torch.where(outer > 0, inner / outer, 1.0)


class MaskDecoder(nn.Module):
    """Decodes one mask (token 0) and three alternatives (tokens 1 to 3), and returns the requested
    masks.
    """

    def __init__(self, dim: int, *, hidden_dim: int, iou_hidden_dim: int) -> None:
        super().__init__()
        outputs = MULTIMASK_OUTPUTS + 1
        self.transformer = TwoWayTransformer(dim, depth=2, heads=8, hidden_dim=hidden_dim)
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(outputs, dim)
        self.obj_score_token = nn.Embedding(1, dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 4, kernel_size=2, stride=2),
            LayerNorm2d(dim // 4),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 4, dim // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            MLP(dim, dim, dim // 8, depth=3) for _ in range(outputs)
        )
        self.iou_prediction_head = MLP(dim, iou_hidden_dim, outputs, depth=3)
        self.pred_obj_score_head = MLP(dim, dim, 1, depth=3)

    def forward(
        self,
        image_embedding: Tensor,
        image_positions: Tensor,
        sparse_embeddings: Tensor,
        dense_embeddings: Tensor,
        high_res_features: tuple[Tensor, Tensor],
        *,
        multimask_output: bool,
    ) -> DecodedMasks:
        """Decode three masks for each of B objects, or one; shapes as in :meth:`decode_all`."""
        decoded = self.decode_all(
            image_embedding, image_positions, sparse_embeddings, dense_embeddings, high_res_features
        )
        masks, ious, mask_tokens, object_score_logits = decoded
        if multimask_output:
            return DecodedMasks(masks[:, 1:], ious[:, 1:], mask_tokens[:, 1:], object_score_logits)
        masks, ious = stable_mask(masks, ious)
        return DecodedMasks(masks, ious, mask_tokens[:, :1], object_score_logits)

    def decode_all(
        self,
        image_embedding: Tensor,
        image_positions: Tensor,
        sparse_embeddings: Tensor,
        dense_embeddings: Tensor,
        high_res_features: tuple[Tensor, Tensor],
    ) -> DecodedMasks:
        """Decode the single mask and the three alternatives of B objects, in this order.

        image_embedding: [B or 1, C, E, E]; image_positions: [1, C, E, E].
        sparse_embeddings: [B, N, C]; dense_embeddings: [B, C, E, E].
        high_res_features: [1 or B, C / 8, 4 E, 4 E] and [1 or B, C / 4, 2 E, 2 E].
        """
        learned = torch.cat((self.obj_score_token.weight, self.iou_token.weight, self.mask_tokens.weight))
        batch = sparse_embeddings.shape[0]
        tokens = torch.cat((learned.expand(batch, -1, -1), sparse_embeddings), dim=1)
        out = self.transformer(image_embedding + dense_embeddings, image_positions, tokens)
        mask_tokens = out.tokens[:, 2 : 2 + self.mask_tokens.num_embeddings]

        upscaled = self._upscale(out.image.transpose(1, 2).view_as(dense_embeddings), high_res_features)
        weights = torch.stack(
            [mlp(mask_tokens[:, i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )
        masks = (weights @ upscaled.flatten(2)).unflatten(-1, upscaled.shape[-2:])
        ious = self.iou_prediction_head(out.tokens[:, 1]).sigmoid()
        object_score_logits = self.pred_obj_score_head(out.tokens[:, 0])
        return DecodedMasks(masks, ious, mask_tokens, object_score_logits)

    def _upscale(self, image: Tensor, high_res_features: tuple[Tensor, Tensor]) -> Tensor:
        """image: [B, C, E, E]; returns [B, C / 8, 4 E, 4 E]."""
        stride4, stride8 = high_res_features
        up1, norm, _, up2, _ = self.output_upscaling
        image = F.gelu(norm(up1(image) + stride8))
        return F.gelu(up2(image) + stride4)


def stable_mask(masks: Tensor, ious: Tensor) -> tuple[Tensor, Tensor]:
    """Select the single mask if it is stable, else the alternative with the highest predicted IoU.

    masks: [B, 4, H, W], ious: [B, 4], the single mask first; returns [B, 1, H, W] and [B, 1].
    """
    best = 1 + ious[:, 1:].argmax(dim=-1)
    rows = torch.arange(len(masks), device=masks.device)
    is_stable = stability_score(masks[:, :1]) >= STABILITY_THRESHOLD
    mask_indices = torch.where(is_stable[:, 0], 0, best)
    return masks[rows, mask_indices].unsqueeze(1), ious[rows, mask_indices].unsqueeze(1)
