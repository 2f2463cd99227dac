"""Simulated user prompts: clicks, boxes, and correcting clicks."""

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from maskmesh.evaluation.mask_metrics import bounding_box
from maskmesh.masks import BoolArray
from tracker_svc.model.prompt_encoder import PointLabel


def sample_click(mask: BoolArray, random: np.random.Generator) -> NDArray[np.float32]:
    """A click on the largest piece of an object, (x, y): often at its innermost point, or anywhere on it."""
    mask = largest_piece(mask)
    depths = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    depth = random.choice([0.0, 0.3, 0.6, 1.0], p=[0.2, 0.2, 0.2, 0.4]) * depths.max()
    rows, columns = np.nonzero((depths >= depth) & mask)
    chosen = int(random.integers(len(rows)))
    return np.array((columns[chosen], rows[chosen]), dtype=np.float32)


def largest_piece(mask: BoolArray) -> BoolArray:
    """The largest connected component of a mask that is not empty."""
    _, pieces, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    piece: BoolArray = pieces == 1 + int(statistics[1:, cv2.CC_STAT_AREA].argmax())
    return piece


def sample_box(mask: BoolArray, random: np.random.Generator) -> NDArray[np.float32]:
    """A box around an object as (left, top), (right, bottom): exact, or with random offsets."""
    found = bounding_box(mask)
    box = np.array([[found.x0, found.y0], [found.x1, found.y1]], dtype=np.float32)
    if random.random() < 0.6:
        box += random.normal(0, 0.04, (2, 2)) * (box[1] - box[0])
    return np.asarray(box.clip(0, max(mask.shape)), dtype=np.float32)


def correcting_clicks(
    logits: Tensor, truth: Tensor, cell: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """One click for each mask, at a random wrong pixel, preferably inside a wrong region.

    logits: [B, H, W]; truth: [B, H, W], 0 to 1; ``cell`` is the side of one of their cells in pixels.
    Returns points [B, 1, 2] in pixels, and labels [B, 1].  A mask without errors gets another click on the
    object.
    """
    wanted = truth > 0.5
    wrong = (logits > 0) != wanted
    wrong = torch.where(wrong.flatten(1).any(dim=1)[:, None, None], wrong, wanted)
    depth = F.avg_pool2d(wrong.float()[:, None], 5, stride=1, padding=2)[:, 0]
    noise = torch.rand(truth.shape, generator=generator).to(truth.device)
    best = (wrong * (depth + 0.3 * noise)).flatten(1).argmax(dim=1)
    width = truth.shape[-1]
    points = (torch.stack((best % width, best // width), dim=-1) + 0.5) * cell - 0.5
    hit = wanted.flatten(1).gather(1, best[:, None])
    return points[:, None], torch.where(hit, PointLabel.POSITIVE, PointLabel.NEGATIVE)


def rough_logits(truth: Tensor, generator: torch.Generator) -> Tensor:
    """Logits of a simulated bad mask: blurred, noisy, with missing parts of the object.

    truth: [B, H, W], 0 to 1; returns [B, 1, H, W].
    """
    blurred = F.avg_pool2d(truth[:, None], 5, stride=1, padding=2)
    coarse = torch.randn((len(truth), 1, 8, 8), generator=generator).to(truth.device)
    noise = F.interpolate(coarse, size=truth.shape[-2:], mode="bilinear")
    return (blurred - 0.5) * 12 + 2 * noise
