"""Converts mask logits to masks in the requested form."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from maskmesh.masks import BINARY_FORMS, BinaryMask, BoolArray, LowResLogits, MaskOptions, PolygonMask
from maskmesh.types import Box, ObjectMask
from tracker_svc.compute.mask_cleanup import clean
from tracker_svc.compute.step import Frame, Tracked
from tracker_svc.following.mask_rules import HIDDEN_LOGIT
from tracker_svc.memory.frame_state import FrameState
from tracker_svc.memory.tracked_object import TrackedObject
from tracker_svc.model.memory_masks import OVERLAP_LOGIT


@torch.inference_mode()
def object_masks(
    obj_ids: Sequence[int],
    states: Sequence[FrameState],
    options: MaskOptions,
    *,
    width: int,
    height: int,
) -> list[ObjectMask]:
    """Masks of objects on one frame of ``width`` x ``height`` pixels, upsampled only if the form needs it.

    The rule for masks that must not overlap is that of the reference implementation of SAM 2.
    """
    if not states:
        return []

    # Masks of the frame's size are made one after another, because many of a large frame take much memory;
    # those that must not overlap are made twice.
    def all_maps() -> Iterator[Tensor]:
        return (_map(state, options, (height, width)) for state in states)

    maps, assigned = all_maps(), None
    if options.non_overlapping and len(states) > 1:
        largest, owners = _owners(all_maps())
        assigned = (largest > 0).cpu().numpy()
        maps = (_without_overlap(logits, owners == number) for number, logits in enumerate(maps))
    return [
        _object_mask(
            obj_id, state, logits, options, (width / logits.shape[1], height / logits.shape[0]), assigned
        )
        for obj_id, state, logits in zip(obj_ids, states, maps, strict=True)
    ]


def _map(state: FrameState, options: MaskOptions, size: tuple[int, int]) -> Tensor:
    """The logits of an object, [S / 4, S / 4], or [height, width] if the form needs them so."""
    logits = state.low_res_masks  # [1, S / 4, S / 4]
    if not options.is_upsampled:
        return logits[0]
    return F.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0, 0]


def tracked_masks(
    frame_index: int,
    objects: Sequence[TrackedObject],
    states: Mapping[int, FrameState],
    options: MaskOptions,
    frame: Frame,
) -> Tracked:
    """The result of a frame from the states of objects on it, by ``obj_id``.

    Objects without a state, and those that the client removed, are left out.
    """
    shown = [obj for obj in objects if obj.obj_id in states and not obj.is_dismissed]
    shown_states = [states[obj.obj_id] for obj in shown]
    masks = object_masks(
        [obj.obj_id for obj in shown], shown_states, options, width=frame.width, height=frame.height
    )
    return Tracked(
        [of_concept(mask, obj, states[obj.obj_id]) for obj, mask in zip(shown, masks, strict=True)],
        any(frame_index in obj.bank.conditioning.keys() - obj.bank.detected for obj in shown),
        [obj.obj_id for obj, state in zip(shown, shown_states, strict=True) if _is_held_back(obj, state)],
    )


def of_concept(mask: ObjectMask, obj: TrackedObject, state: FrameState) -> ObjectMask:
    """A mask with the concept that found its object, and the score."""
    if obj.concept_id is None:
        return mask
    return replace(mask, concept_id=obj.concept_id, concept_score=state.concept_score)


def _is_held_back(obj: TrackedObject, state: FrameState) -> bool:
    """Whether an object of a concept is in sight, but its mask was hidden."""
    if obj.concept_id is None or state.object_score_logit <= 0:
        return False
    return bool(state.low_res_masks.max() <= HIDDEN_LOGIT)


def _owners(maps: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
    """The largest logit of each pixel, and the number of the map that has it; ties go to the first map."""
    largest = next(maps).clone()
    owners = torch.zeros_like(largest, dtype=torch.int16)
    for number, logits in enumerate(maps, start=1):
        owners[logits > largest] = number
        torch.maximum(largest, logits, out=largest)
    return largest, owners


def _without_overlap(logits: Tensor, owned: Tensor) -> Tensor:
    """The logits of an object, low on the pixels of others."""
    return torch.where(owned, logits, logits.clamp(max=OVERLAP_LOGIT))


def _object_mask(
    obj_id: int,
    state: FrameState,
    logits: Tensor,
    options: MaskOptions,
    scale: tuple[float, float],
    assigned: BoolArray | None,
) -> ObjectMask:
    """logits: [H, W]; scale: width and height of one logit in pixels of the frame.

    ``assigned`` are the pixels that belong to an object already, if masks must not overlap; filled holes are
    added to them.
    """
    mask = logits > 0
    form = BINARY_FORMS.get(options.format)
    shown: BinaryMask | LowResLogits
    if form is None:
        shown = LowResLogits(logits.cpu().numpy())
    else:
        pixels = mask.cpu().numpy()
        if options.fill_holes_area or options.remove_specks_area:
            cleaned = clean(
                pixels,
                fill_holes_area=options.fill_holes_area,
                remove_specks_area=options.remove_specks_area,
            )
            if assigned is not None:
                # A hole may show another object, or be filled by another one too.
                cleaned &= pixels | ~assigned
                assigned |= cleaned
            pixels = cleaned
            mask = torch.from_numpy(pixels)
        if form is PolygonMask:
            shown = PolygonMask.encode(pixels, options.polygon_tolerance)
        else:
            shown = form.encode(pixels)
    return ObjectMask(
        obj_id, shown, state.predicted_iou, state.object_score_logit, _bounding_box(mask, scale)
    )


def _bounding_box(mask: Tensor, scale: tuple[float, float]) -> Box | None:
    """The smallest box around a mask [H, W], in pixels of the frame; None for an empty mask."""
    columns, rows = mask.any(dim=0).nonzero(), mask.any(dim=1).nonzero()
    if not len(columns):
        return None
    (x0, x1), (y0, y1) = ((int(indices[0]), int(indices[-1]) + 1) for indices in (columns, rows))
    return Box(x0 * scale[0], y0 * scale[1], x1 * scale[0], y1 * scale[1])
