"""Quick validation during training; the results of the model card are measured through the mesh."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from maskmesh.evaluation.mask_metrics import bounding_box, innermost_point
from maskmesh.nn.image_features import ImageFeatures
from maskmesh.types import Box, Point
from tools.train_micro.clips import MIN_SIGHT
from tools.train_micro.data.real_clips import RealClip
from tools.train_micro.data.sources import SOURCE_SIZE, Source
from tools.train_micro.images import Points, box, click, decode
from tools.train_micro.micro import Micro, take
from tools.train_micro.prompts import largest_piece
from tools.train_micro.rollout import Rollout

BATCH = 20
MOST_OF_ONE = 5


@torch.no_grad()
def validate_images(model: Micro, sources: Sequence[Source], device: torch.device) -> dict[str, float]:
    """Mean IoU from one click at the innermost point and from the box; the model is in evaluation mode.

    At most :data:`MOST_OF_ONE` objects of an image count.  The figures of a set have its name as prefix;
    ``click_best`` uses the alternative with the highest true IoU, as an upper bound for the selection.
    """
    objects = [(source, label) for source in sources for label in source.ids()[:MOST_OF_ONE]]
    ious: dict[str, list[Tensor]] = {"click": [], "click_single": [], "click_best": [], "box": []}
    for start in range(0, len(objects), BATCH):
        part = objects[start : start + BATCH]
        pictures = torch.from_numpy(np.stack([s.picture for s, _ in part])).permute(0, 3, 1, 2).float()
        frames = F.interpolate(pictures, size=(model.size, model.size), mode="bilinear", antialias=True)
        frames = frames.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).to(device)
        masks = [source.mask(label) > 0 for source, label in part]
        truth = torch.from_numpy(np.stack(masks)).to(device)
        features = model.encode(frames)
        conditioned = model.tracker.without_memory(features)
        inner = torch.tensor(
            [[_xy(innermost_point(largest_piece(mask)))] for mask in masks], dtype=torch.float32
        )
        corners = torch.tensor([_corners(bounding_box(m)) for m in masks], dtype=torch.float32)
        for points in (
            click(inner.to(device) * model.size / SOURCE_SIZE),
            box(corners.to(device) * model.size / SOURCE_SIZE),
        ):
            found, predicted = _ious(model, features, conditioned, points, truth)
            if not points.ambiguous:
                ious["box"].append(found[:, 0])
                continue
            best = predicted[:, 1:].argmax(dim=1, keepdim=True)
            ious["click"].append(found[:, 1:].gather(1, best)[:, 0])
            ious["click_single"].append(found[:, 0])
            ious["click_best"].append(found[:, 1:].amax(dim=1))
    figures = {name: float(torch.cat(values).mean()) for name, values in ious.items()}
    names = np.array([source.image_set.name for source, _ in objects])
    for image_set in dict.fromkeys(names.tolist()):
        rows = torch.from_numpy(names == image_set)
        for name in ("click", "box"):
            figures[f"{image_set}_{name}"] = float(torch.cat(ious[name]).cpu()[rows].mean())
    return figures


@torch.no_grad()
def validate_clips(
    model: Micro, clips: Dataset[dict[str, Tensor]], device: torch.device, *, count: int = 48
) -> dict[str, float]:
    """Mean IoU of tracked objects while in sight, and the accuracy of the object score.

    The clips are composed like training clips, but from held-out images; each object is prompted by a
    click.
    """
    ious, judged = [], []
    for index in range(count):
        clip = {name: value.to(device) for name, value in clips[index].items()}
        features = model.encode(clip["frames"])
        truths = clip["masks"]
        rollout = Rollout(model.tracker)
        rows = torch.zeros(truths.shape[1], dtype=torch.long, device=device)
        first = take(features, rows)
        conditioned = model.tracker.without_memory(first)
        rollout.prompt(first, decode(model, first, conditioned, click(clip["click"])), ambiguous=True)
        for step in range(1, len(truths)):
            frame = take(features, rows + step)
            _, decoded = rollout.attend(frame)
            predicted = rollout.track(frame, decoded)
            in_sight = truths[step].sum(dim=(1, 2)) >= MIN_SIGHT
            judged.append((predicted.object_score_logits > 0) == in_sight)
            size = truths.shape[-2:]
            masks = F.interpolate(predicted.low_res_masks, size=size, mode="bilinear") > 0
            both = (masks[:, 0] & truths[step]).sum(dim=(1, 2))
            union = (masks[:, 0] | truths[step]).sum(dim=(1, 2))
            ious.append((both / union.clamp(min=1))[in_sight])
    return {"tracked": float(torch.cat(ious).mean()), "sight": float(torch.cat(judged).float().mean())}


@torch.no_grad()
def validate_real_clips(model: Micro, clips: Sequence[RealClip], device: torch.device) -> dict[str, float]:
    """Mean IoU of the objects of held-out filmed clips, prompted by their first masks and by a click."""
    ious: dict[str, list[float]] = {"film_mask": [], "film_click": []}
    for clip in clips:
        pictures = torch.from_numpy(clip.frames).permute(0, 3, 1, 2).float()
        resized = F.interpolate(pictures, size=(model.size, model.size), mode="bilinear", antialias=True)
        frames = resized.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).to(device)
        features = [model.encode(frame[None]) for frame in frames]
        for label in clip.promptable(0, 1):
            truths = torch.from_numpy(clip.labels == label).to(device)
            for name, found in ious.items():
                rollout = Rollout(model.tracker)
                if name == "film_mask":
                    side = (model.size, model.size)
                    given = F.interpolate(truths[:1, None].float(), size=side, mode="nearest")
                    rollout.adopt(features[0], given)
                else:
                    x, y = _xy(innermost_point(largest_piece(truths[0].cpu().numpy())))
                    scale = model.size / truths.shape[-1]
                    points = click(torch.tensor([[[x * scale, y * scale]]], device=device))
                    conditioned = model.tracker.without_memory(features[0])
                    first = decode(model, features[0], conditioned, points)
                    rollout.prompt(features[0], first, ambiguous=True)
                for frame, truth in zip(features[1:-1], truths[1:-1], strict=True):
                    _, decoded = rollout.attend(frame)
                    predicted = rollout.track(frame, decoded)
                    mask = F.interpolate(predicted.low_res_masks, size=truth.shape, mode="bilinear")[0, 0] > 0
                    union = int((mask | truth).sum())
                    found.append(int((mask & truth).sum()) / union if union else 1.0)
    return {name: float(np.mean(found)) for name, found in ious.items() if found}


def _ious(
    model: Micro, features: ImageFeatures, conditioned: Tensor, points: Points, truth: Tensor
) -> tuple[Tensor, Tensor]:
    """True IoU at the size of the sources, and predicted IoU, of all four masks: [B, 4] each."""
    decoded = decode(model, features, conditioned, points)
    size = truth.shape[-2:]
    masks = F.interpolate(decoded.low_res_masks.float(), size=size, mode="bilinear", align_corners=False) > 0
    both = (masks & truth[:, None]).sum(dim=(-1, -2))
    union = (masks | truth[:, None]).sum(dim=(-1, -2))
    return both / union.clamp(min=1), decoded.iou_predictions.float()


def _xy(point: Point) -> tuple[float, float]:
    return point.x, point.y


def _corners(box: Box) -> tuple[tuple[float, float], tuple[float, float]]:
    return (box.x0, box.y0), (box.x1, box.y1)
