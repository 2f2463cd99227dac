"""Losses of masks, predicted IoUs and object scores.

Source: the mask loss of the best alternative from Kirillov et al., "Segment Anything" (2023); the dice loss
from Milletari et al., "V-Net" (2016).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tracker_svc.model.mask_decoder import DecodedMasks

# The loss is computed at twice the decoder's resolution, because interpolated logits can represent outlines
# between two cells.
LOSS_SCALE = 2

ALTERNATIVES_WEIGHT = 0.1
IOU_WEIGHT = 0.5
SCORE_WEIGHT = 0.5


def mask_losses(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy plus dice of each mask.  logits, truth: [N, H, W], truth 0 to 1; returns [N]."""
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(dim=(1, 2))
    likely = logits.sigmoid()
    overlap = (likely * truth).sum(dim=(1, 2))
    dice = 1 - (2 * overlap + 1) / (likely.sum(dim=(1, 2)) + truth.sum(dim=(1, 2)) + 1)
    # Entropy is averaged over the image; the weight compensates for the small area of outlines and objects.
    return 2 * entropy + dice


def binary_ious(logits: Tensor, truth: Tensor) -> Tensor:
    """IoU of masks with a threshold of zero.  logits: [B, M, H, W]; truth: [B, H, W]; returns [B, M]."""
    ours, theirs = logits > 0, (truth > 0.5)[:, None]
    union = (ours | theirs).sum(dim=(-1, -2))
    both = (ours & theirs).sum(dim=(-1, -2))
    return torch.where(union > 0, both / union.clamp(min=1), 1.0)


def decoder_loss(decoded: DecodedMasks, truth: Tensor, in_sight: Tensor, *, scored: bool) -> Tensor:
    """The loss of all four masks of B objects.

    truth: [B, 2 H, 2 W] for masks of H x W, 0 to 1.  in_sight: [B] bool; masks of objects out of sight do
    not contribute.  ``scored`` adds the loss of the object score.
    """
    low_res = decoded.low_res_masks.float()
    target = F.avg_pool2d(truth[:, None], LOSS_SCALE)[:, 0]
    batch, count = low_res.shape[:2]
    each = mask_losses(low_res.flatten(0, 1), target.repeat_interleave(count, dim=0)).view(batch, count)
    rows = torch.arange(batch, device=low_res.device)
    best = 1 + each[:, 1:].detach().argmin(dim=1)
    chosen = torch.stack((low_res[:, 0], low_res[rows, best]), dim=1)
    fine = F.interpolate(chosen, scale_factor=float(LOSS_SCALE), mode="bilinear", align_corners=False)
    judged = mask_losses(fine.flatten(0, 1), truth.repeat_interleave(2, dim=0)).view(batch, 2)
    with torch.no_grad():
        quality = binary_ious(low_res, target)
    iou_loss = (decoded.iou_predictions.float() - quality).abs().mean(dim=1)
    per_object = judged.sum(dim=1) + ALTERNATIVES_WEIGHT * each[:, 1:].sum(dim=1) + IOU_WEIGHT * iou_loss
    loss = (per_object * in_sight).sum() / in_sight.sum().clamp(min=1)
    if scored:
        scores = decoded.object_score_logits[:, 0].float()
        loss = loss + SCORE_WEIGHT * F.binary_cross_entropy_with_logits(scores, in_sight.float())
    return loss
