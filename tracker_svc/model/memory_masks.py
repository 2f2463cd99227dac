"""Masks at the input of the memory encoder.

Source: Ravi et al., "SAM 2" (2024), and the reference implementations of SAM 2 and SAM 3.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# Upper limit of an object's logits on pixels that belong to another object.
OVERLAP_LOGIT = -10.0

# Scale and offset of masks at the input of the memory encoder, and of masks that are prompts.
MASK_SCALE, MASK_BIAS = 20.0, -10.0


def scale_mask(logits: Tensor, prompted: Tensor, mask_size: int) -> Tensor:
    """Scale masks to the range of the memory encoder's input, and resize them to its size.

    logits: [B, 1, S, S].  prompted: [B] bool; masks of prompted frames are binarised, other masks become
    probabilities.  Returns [B, 1, mask_size, mask_size].
    """
    mask = torch.where(prompted.view(-1, 1, 1, 1), (logits > 0).float(), logits.sigmoid())
    return resized(mask * MASK_SCALE + MASK_BIAS, mask_size)


def resized(masks: Tensor, size: int) -> Tensor:
    """Resize masks [B, 1, H, W] to size x size, with antialiasing if they become smaller."""
    if masks.shape[-2:] == (size, size):
        return masks
    return F.interpolate(masks, size=(size, size), mode="bilinear", align_corners=False, antialias=True)


def disjoint(logits: Tensor) -> Tensor:
    """Keep each pixel of several masks for the mask with the largest logit.  logits: [B, 1, H, W]."""
    if len(logits) == 1:
        return logits
    owner = logits.argmax(dim=0, keepdim=True)
    rows = torch.arange(len(logits), device=logits.device).view(-1, 1, 1, 1)
    return torch.where(owner == rows, logits, logits.clamp(max=OVERLAP_LOGIT))
