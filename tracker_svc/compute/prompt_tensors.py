"""Converts prompts to tensors at the model's input size, S x S."""

import torch
import torch.nn.functional as F
from torch import Tensor

from maskmesh.masks import BinaryMask, LowResLogits
from maskmesh.types import Prompt
from tracker_svc.compute.step import Frame
from tracker_svc.model.prompt_encoder import PointLabel
from tracker_svc.model.tracking_model import TrackingModel

# The logits that a click corrects are clamped to this absolute value, as in the training of SAM 2.
PREVIOUS_LOGIT_LIMIT = 32.0


def point_tensors(prompt: Prompt, frame: Frame, model: TrackingModel) -> tuple[Tensor, Tensor]:
    """Points and box: coordinates [1, N, 2] in pixels of the model's input, and labels [1, N]."""
    points = labelled_points(prompt)
    shares = [[x / frame.width, y / frame.height] for x, y, _ in points]
    coords = torch.tensor(shares, device=model.device).view(1, -1, 2) * model.image_size
    labels = torch.tensor([label for _, _, label in points], device=model.device).view(1, -1)
    return coords, labels.long()


def mask_input(logits: LowResLogits, model: TrackingModel) -> Tensor:
    """Logits from an earlier response: [1, 1, 4 E, 4 E]."""
    values = torch.from_numpy(logits.values.copy()).to(model.device)[None, None]
    return values.clamp(-PREVIOUS_LOGIT_LIMIT, PREVIOUS_LOGIT_LIMIT)


def binary_mask(mask: BinaryMask, model: TrackingModel) -> Tensor:
    """A mask of the frame: [1, 1, S, S], zeros and ones."""
    values = torch.from_numpy(mask.decode()).to(model.device)[None, None].float()
    size = (model.image_size, model.image_size)
    if values.shape[-2:] != size:
        values = F.interpolate(values, size=size, mode="bilinear", antialias=True)
    return (values >= 0.5).float()


def labelled_points(prompt: Prompt) -> list[tuple[float, float, int]]:
    """Points and box as x, y and the model's label, the box first."""
    points: list[tuple[float, float, int]] = []
    if (box := prompt.box) is not None:
        points += [(box.x0, box.y0, PointLabel.BOX_TOP_LEFT), (box.x1, box.y1, PointLabel.BOX_BOTTOM_RIGHT)]
    return points + [(p.x, p.y, int(p.positive)) for p in prompt.points]
