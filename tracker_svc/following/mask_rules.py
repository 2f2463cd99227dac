"""Rules on masks: overlap, duplicates, holes and specks, shrinking."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

# The logits that close a hole and remove a speck.
HOLE_LOGIT, SPECK_LOGIT = 0.1, -0.1

# Logits of a hidden mask.
HIDDEN_LOGIT = -10.0

# Pixels that touch at a corner belong together.
_NEIGHBOURS = np.ones((3, 3), dtype=bool)


def mask_iou(first: Tensor, second: Tensor) -> Tensor:
    """The IoU of each pair of masks.  first: [N, H, W], second: [M, H, W], bool; returns [N, M]."""
    rows, columns = first.flatten(1).float(), second.flatten(1).float()
    shared = rows @ columns.T
    union = rows.sum(1)[:, None] + columns.sum(1)[None] - shared
    return shared / union.clamp(min=1)


def without_duplicates(scores: Sequence[float], masks: Tensor, iou: float) -> list[int]:
    """The indices of detections that overlap no better one more than ``iou``, in ascending order.

    masks: [N, H, W], bool.
    """
    if iou <= 0:
        return list(range(len(scores)))
    overlaps = mask_iou(masks, masks).tolist()
    kept: list[int] = []
    for index in sorted(range(len(scores)), key=lambda i: -scores[i]):
        if all(overlaps[index][better] <= iou for better in kept):
            kept.append(index)
    return sorted(kept)


def without_specks(logits: Tensor, area: int) -> Tensor:
    """Close holes and remove specks of at most ``area`` pixels; specks are less than half of their mask.

    logits: [N, H, W]; returns the same shape.
    """
    if area <= 0 or not len(logits):
        return logits
    values = logits.cpu().numpy().copy()
    for mask in values:
        mask[_small_parts(mask <= 0, area)] = HOLE_LOGIT
        foreground = mask > 0
        mask[_small_parts(foreground, min(area, int(foreground.sum()) // 2))] = SPECK_LOGIT
    return torch.from_numpy(values).to(logits.device)


def _small_parts(mask: np.ndarray, area: int) -> np.ndarray:
    """The pixels of connected parts of at most ``area`` pixels.  mask: [H, W], bool."""
    labels, count = ndimage.label(mask, structure=_NEIGHBOURS)
    if not count:
        return np.zeros_like(mask)
    small = np.bincount(labels.ravel()) <= area
    small[0] = False
    pixels: np.ndarray = small[labels]
    return pixels


def hide_shrunk(logits: Tensor, ratio: float) -> Tensor:
    """Hide masks that keep less than ``ratio`` of their area when each pixel goes to the largest logit.

    logits: [N, H, W]; returns the same shape.  A hidden mask has no logit above HIDDEN_LOGIT.
    """
    if len(logits) <= 1:
        return logits
    owner = logits.argmax(dim=0)
    mine = owner[None] == torch.arange(len(logits), device=logits.device)[:, None, None]
    before = (logits > 0).sum(dim=(1, 2)).clamp(min=1)
    kept = ((logits > 0) & mine).sum(dim=(1, 2)) / before >= ratio
    return torch.where(kept[:, None, None], logits, logits.clamp(max=HIDDEN_LOGIT))


def recently_occluded(masks: Tensor, occluded: Sequence[int], iou: float, *, reverse: bool) -> list[bool]:
    """Which of several objects hide, because they overlap one that was out of sight longer ago.

    masks: [N, H, W], bool; ``occluded`` is the last frame on which each object was out of sight, -1 for none.
    Objects that were never out of sight hide nobody; in reverse they hide themselves, as in the reference
    implementation.
    """
    hidden = [False] * len(occluded)
    overlaps = mask_iou(masks, masks).tolist()
    for i in range(len(occluded)):
        for j in range(i + 1, len(occluded)):
            if overlaps[i][j] < iou:
                continue
            first, second = occluded[i], occluded[j]
            later_first = first < second if reverse else first > second
            later_second = second < first if reverse else second > first
            if later_first and second > -1:
                hidden[i] = True
            elif later_second and first > -1:
                hidden[j] = True
    return hidden
