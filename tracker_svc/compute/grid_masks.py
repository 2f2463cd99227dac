"""Masks of a whole image from a grid of points, without uncertain, unstable and repeated ones.

The rules are those of the automatic mask generator of the reference implementation (Kirillov et al., "Segment
Anything", 2023, appendix B), applied to masks of the model's own size.  Only what remains is upsampled.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from maskmesh import telemetry
from maskmesh.telemetry import StageRecorder
from tracker_svc.compute.step import Frame, prepare_features
from tracker_svc.model.mask_decoder import stability_score
from tracker_svc.model.prompt_encoder import PointLabel
from tracker_svc.model.tracking_model import TrackingModel

POINTS_PER_BATCH = 64

# Masks that are kept while a grid is searched, the most confident ones; their logits take up to 256 KiB each.
MAX_CANDIDATES = 1024

# The logit at which the stability of a mask is measured.
STABILITY_OFFSET = 1.0


class GridOptions(NamedTuple):
    """Which masks of a grid are kept."""

    points_per_side: int = 32
    min_predicted_iou: float = 0.8
    min_stability: float = 0.95
    max_box_iou: float = 0.7
    max_masks: int = 0
    """0 is no limit but MAX_CANDIDATES."""
    min_area: int = 0
    """In pixels of the image."""


class GridMasks(NamedTuple):
    """Masks of one image; N of them, the most confident first."""

    logits: Tensor  # [N, 4 E, 4 E], float32
    predicted_ious: Tensor  # [N]
    stabilities: Tensor  # [N]
    points: Tensor  # [N, 2], x and y as shares of the image
    boxes: Tensor  # [N, 4], in pixels of the logits

    def rows(self, kept: Tensor) -> "GridMasks":
        """Some of the masks, by their indices or a mask."""
        return GridMasks(*(value[kept] for value in self))


def grid(points_per_side: int) -> Tensor:
    """The centres of equal parts of the image: [points_per_side^2, 2], x and y as shares of it."""
    centres = (torch.arange(points_per_side) + 0.5) / points_per_side
    rows, columns = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack((columns.flatten(), rows.flatten()), dim=1)


def batches(points_per_side: int) -> Iterator[Tensor]:
    """The points of a grid, a few at a time."""
    yield from grid(points_per_side).split(POINTS_PER_BATCH)


@torch.inference_mode()
def masks_at(
    model: TrackingModel, frame: Frame, points: Tensor, options: GridOptions, recorder: StageRecorder
) -> GridMasks:
    """The masks of some points that pass the thresholds, three alternatives for each point."""
    prepare_features(model, [frame], [recorder])
    attributes: telemetry.Attributes = {telemetry.BATCH_SIZE: len(points)}
    with recorder.stage(telemetry.PROMPT_ENCODER, attributes):
        coords = points.to(model.device)[:, None] * model.image_size
        labels = torch.full((len(points), 1), PointLabel.POSITIVE, device=model.device)
        encoded = model.encode_prompts(coords, labels)
    with recorder.stage(telemetry.MASK_DECODER, attributes):
        decoded = model.decode(
            model.without_memory(frame.features), frame.features, encoded, multimask_output=True
        )
        ious = decoded.iou_predictions.float()
        stabilities = stability_score(decoded.low_res_masks, STABILITY_OFFSET)
        passes = (ious >= options.min_predicted_iou) & (stabilities >= options.min_stability)
        logits = decoded.low_res_masks[passes].float()
        passes &= torch.zeros_like(passes).masked_scatter(passes, (logits > 0).flatten(1).any(dim=1))
        logits = decoded.low_res_masks[passes].float()
        found = GridMasks(
            logits,
            ious[passes],
            stabilities[passes],
            points.to(model.device)[:, None].expand(-1, ious.shape[1], -1)[passes],
            bounding_boxes(logits > 0),
        )
        return without_repetitions(found, options)


@torch.inference_mode()
def joined(parts: Sequence[GridMasks]) -> GridMasks:
    """The masks of several batches, at most ``MAX_CANDIDATES`` of them, the most confident first."""
    order = torch.cat([part.predicted_ious for part in parts]).argsort(descending=True, stable=True)
    return GridMasks(*(torch.cat(values) for values in zip(*parts, strict=True))).rows(order[:MAX_CANDIDATES])


@torch.inference_mode()
def without_repetitions(found: GridMasks, options: GridOptions) -> GridMasks:
    """The masks whose boxes do not overlap that of a more confident one too far."""
    return found.rows(non_maximum_suppression(found.boxes, found.predicted_ious, options.max_box_iou))


def bounding_boxes(masks: Tensor) -> Tensor:
    """The smallest boxes around masks: [N, H, W] bool, none empty; returns [N, 4], x0, y0, x1, y1."""
    if not len(masks):
        return torch.zeros(0, 4, device=masks.device)
    columns, rows = masks.any(dim=1), masks.any(dim=2)
    edges = []
    for found in (columns, rows):
        size = found.shape[1]
        positions = torch.arange(size, device=masks.device)
        edges.append(torch.where(found, positions, size).amin(dim=1))
        edges.append(torch.where(found, positions, -1).amax(dim=1) + 1)
    return torch.stack((edges[0], edges[2], edges[1], edges[3]), dim=1).float()


def non_maximum_suppression(boxes: Tensor, scores: Tensor, max_iou: float) -> Tensor:
    """Indices of boxes, the highest score first, without those that overlap a better one by more.

    boxes: [N, 4]; scores: [N].
    """
    order = scores.argsort(descending=True, stable=True)
    sorted_boxes = boxes[order]
    area = (sorted_boxes[:, 2:] - sorted_boxes[:, :2]).prod(dim=1)
    low = torch.maximum(sorted_boxes[:, None, :2], sorted_boxes[None, :, :2])
    high = torch.minimum(sorted_boxes[:, None, 2:], sorted_boxes[None, :, 2:])
    common = (high - low).clamp(min=0).prod(dim=2)
    overlaps = (common / (area[:, None] + area[None] - common).clamp(min=1e-6) > max_iou).cpu()
    kept: list[int] = []
    is_left = torch.ones(len(order), dtype=torch.bool)
    for index in range(len(order)):
        if is_left[index]:
            kept.append(index)
            is_left &= ~overlaps[index]
    return order[torch.tensor(kept, dtype=torch.long, device=order.device)]
