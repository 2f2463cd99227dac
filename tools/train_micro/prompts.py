"""Prompts as users give them: clicks inside, boxes around, and clicks where the mask is wrong."""

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from maskmesh.types import BoolArray

# Labels of points, as the prompt encoder numbers them.
NEGATIVE, POSITIVE, BOX_TOP_LEFT, BOX_BOTTOM_RIGHT = 0, 1, 2, 3


def innermost_point(mask: BoolArray) -> tuple[int, int]:
    """The pixel (x, y) of a mask that is farthest from its outline.  The mask must not be empty."""
    distances = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(int(np.argmax(distances)), mask.shape)
    return int(x), int(y)


def sample_click(mask: BoolArray, random: np.random.Generator) -> NDArray[np.float32]:
    """A click on an object, (x, y): often at its heart, sometimes anywhere on it."""
    if random.random() < 0.4:
        point = innermost_point(mask)
    else:
        distances = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
        depth = random.choice([0.0, 0.3, 0.6]) * distances.max()
        rows, columns = np.nonzero((distances >= depth) & mask)
        chosen = int(random.integers(len(rows)))
        point = int(columns[chosen]), int(rows[chosen])
    return np.array(point, dtype=np.float32)


def sample_box(mask: BoolArray, random: np.random.Generator) -> NDArray[np.float32]:
    """A box around an object as (left, top), (right, bottom): exact, or drawn by hand."""
    rows, columns = np.nonzero(mask)
    box = np.array([[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]], dtype=np.float32)
    if random.random() < 0.6:
        box += random.normal(0, 0.04, (2, 2)) * (box[1] - box[0])
    return np.asarray(box.clip(0, max(mask.shape)), dtype=np.float32)


def correcting_clicks(logits: Tensor, truth: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One click for each mask, in a random place that it gets wrong, rather inside such places.

    logits: [B, H, W]; truth: [B, H, W], 0 to 1.  Returns points [B, 1, 2] as shares of the image, and
    labels [B, 1].  A mask without an error gets another click on the object.
    """
    wanted = truth > 0.5
    wrong = (logits > 0) != wanted
    wrong = torch.where(wrong.flatten(1).any(dim=1)[:, None, None], wrong, wanted)
    depth = F.avg_pool2d(wrong.float()[:, None], 5, stride=1, padding=2)[:, 0]
    noise = torch.rand(truth.shape, generator=generator).to(truth.device)
    best = (wrong * (depth + 0.3 * noise)).flatten(1).argmax(dim=1)
    height, width = truth.shape[-2:]
    points = torch.stack(((best % width + 0.5) / width, (best // width + 0.5) / height), dim=-1)
    labels = torch.where(wanted.flatten(1).gather(1, best[:, None])[:, 0], POSITIVE, NEGATIVE)
    return points[:, None], labels[:, None]
