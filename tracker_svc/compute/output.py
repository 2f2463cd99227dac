"""From logits to masks in the form that was asked for."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from maskmesh.masks import BINARY_FORMS, LowResLogits, MaskFormat, MaskOptions
from maskmesh.types import Box, ObjectMask
from tracker_svc.memory.frame_state import FrameState

# What a pixel's logit is at most where it belongs to another object.
OTHERS_LOGIT = -10.0


@torch.inference_mode()
def object_masks(
    obj_ids: Sequence[int],
    states: Sequence[FrameState],
    options: MaskOptions,
    *,
    width: int,
    height: int,
) -> list[ObjectMask]:
    """Objects on one frame of ``width`` x ``height`` pixels; upsampled only where the form needs it.

    Source of the rule for masks that must not overlap: the reference implementation of SAM 2.
    """
    if not states:
        return []
    logits = torch.stack([state.low_res_masks for state in states])  # [N, 1, S / 4, S / 4]
    if options.is_upsampled:
        # One after the other: many objects of a large frame would be a large block of memory.
        maps: Sequence[Tensor] = [
            F.interpolate(one[None], size=(height, width), mode="bilinear", align_corners=False)[0, 0]
            for one in logits
        ]
    else:
        maps = list(logits[:, 0])
    if options.non_overlapping and len(states) > 1:
        maps = _without_overlap(maps)
    scale = (width / maps[0].shape[1], height / maps[0].shape[0])
    return [
        _object_mask(obj_id, state, one, options.format, scale)
        for obj_id, state, one in zip(obj_ids, states, maps, strict=True)
    ]


def _without_overlap(maps: Sequence[Tensor]) -> list[Tensor]:
    """Every pixel is left to the object with the largest logit, the first among equals."""
    largest = maps[0]
    for one in maps[1:]:
        largest = torch.maximum(largest, one)
    taken = torch.zeros_like(largest, dtype=torch.bool)
    exclusive = []
    for one in maps:
        wins = (one == largest) & ~taken
        taken |= wins
        exclusive.append(torch.where(wins, one, one.clamp(max=OTHERS_LOGIT)))
    return exclusive


def _object_mask(
    obj_id: int, state: FrameState, logits: Tensor, mask_format: MaskFormat, scale: tuple[float, float]
) -> ObjectMask:
    """logits: [H, W]; scale: pixels of the frame for each column and row of them."""
    mask = logits > 0
    form = BINARY_FORMS.get(mask_format)
    return ObjectMask(
        obj_id,
        LowResLogits(logits.cpu().numpy()) if form is None else form.encode(mask.cpu().numpy()),
        state.predicted_iou,
        state.object_score_logit,
        _bounding_box(mask, scale),
    )


def _bounding_box(mask: Tensor, scale: tuple[float, float]) -> Box | None:
    """The smallest box around a mask [H, W], in pixels of the frame; None around nothing."""
    columns, rows = mask.any(dim=0).nonzero(), mask.any(dim=1).nonzero()
    if not len(columns):
        return None
    (x0, x1), (y0, y1) = ((int(found[0]), int(found[-1]) + 1) for found in (columns, rows))
    return Box(x0 * scale[0], y0 * scale[1], x1 * scale[0], y1 * scale[1])
