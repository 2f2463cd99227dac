"""The first phase: prompts on single pictures."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from tools.train_micro.compose import Composer, degrade
from tools.train_micro.losses import decoder_loss
from tools.train_micro.micro import Micro
from tools.train_micro.prompts import (
    BOX_BOTTOM_RIGHT,
    BOX_TOP_LEFT,
    POSITIVE,
    correcting_clicks,
    sample_box,
    sample_click,
)
from tracker_svc.model.mask_decoder import DecodedMasks
from tracker_svc.model.tracking_model import ImageFeatures

CORRECTION_WEIGHT = 0.5

# The decoder sees what a session would feed back to it.
LOGIT_LIMIT = 32.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What was said of B objects: points as shares of the image [B, N, 2] and their labels [B, N]."""

    points: Tensor
    labels: Tensor

    def and_also(self, points: Tensor, labels: Tensor) -> "Asked":
        """With more points after those before."""
        return Asked(torch.cat((self.points, points), dim=1), torch.cat((self.labels, labels), dim=1))


class Stills(Dataset[dict[str, Tensor]]):
    """One random scene of one frame for each index: equal for equal seeds."""

    def __init__(self, composer: Composer, seeds: tuple[int, ...]) -> None:
        self.composer = composer
        self.seeds = seeds

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """A frame, a click on one of its objects and a box around one, and the masks of both."""
        random = np.random.default_rng((*self.seeds, index))
        scene, layers = self.composer.still_scene(random)
        clicked, boxed = (scene.masks[0, random.choice(layers)] for _ in range(2))
        size = self.composer.size
        return {
            "frame": torch.from_numpy(degrade(scene.frames, random)[0]),
            "click": torch.from_numpy(sample_click(clicked, random)[None] / size),
            "clicked": torch.from_numpy(clicked),
            "box": torch.from_numpy(sample_box(boxed, random) / size),
            "boxed": torch.from_numpy(boxed),
        }


def click(points: Tensor) -> Asked:
    """One positive click for each object; points: [B, 1, 2]."""
    return Asked(points, torch.full(points.shape[:2], POSITIVE, device=points.device))


def box(corners: Tensor) -> Asked:
    """One box for each object; corners: [B, 2, 2]."""
    labels = torch.tensor([[BOX_TOP_LEFT, BOX_BOTTOM_RIGHT]], device=corners.device)
    return Asked(corners, labels.expand(corners.shape[0], -1))


def decode(
    model: Micro, features: ImageFeatures, conditioned: Tensor, asked: Asked, logits: Tensor | None = None
) -> DecodedMasks:
    """All four masks of B objects, each on its own frame; logits: [B, 1, S / 4, S / 4] to be corrected."""
    tracker = model.tracker
    # Clicks name pixels and the prompt encoder moves them to their centres; shares need no such move.
    coords = asked.points * model.size - 0.5
    prompts = tracker.encode_prompts(coords, asked.labels, logits)
    decoded: DecodedMasks = tracker.sam_mask_decoder.decode_all(
        conditioned,
        tracker.sam_prompt_encoder.image_positions(),
        prompts.sparse_embeddings,
        prompts.dense_embeddings,
        features.high_res_features,
    )
    return decoded


def shrink(masks: Tensor, side: int) -> Tensor:
    """How much of each cell a mask covers: [B, S, S] bool to [B, side, side]."""
    return F.adaptive_avg_pool2d(masks[:, None].float(), side)[:, 0]


def fed_back(decoded: DecodedMasks) -> Tensor:
    """The mask that a correction starts from, as the decoder sees it: [B, 1, S / 4, S / 4]."""
    rows = torch.arange(len(decoded.low_res_masks), device=decoded.low_res_masks.device)
    best = 1 + decoded.iou_predictions[:, 1:].argmax(dim=1)
    chosen = decoded.low_res_masks[rows, best].detach().float()
    return chosen[:, None].clamp(-LOGIT_LIMIT, LOGIT_LIMIT)


def images_loss(model: Micro, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """Losses of clicks, of boxes, and of one correction of either."""
    features = model.encode(batch["frame"])
    conditioned = model.tracker.without_memory(features)
    side = model.size // 2
    losses = {}
    everywhere = torch.ones(len(batch["frame"]), dtype=torch.bool, device=batch["frame"].device)
    # One of the two kinds is corrected in each step, turn about by chance.
    corrected = "click" if torch.rand((), generator=generator) < 0.5 else "box"
    for name, asked, masks in (
        ("click", click(batch["click"]), batch["clicked"]),
        ("box", box(batch["box"]), batch["boxed"]),
    ):
        truth = shrink(masks, side)
        decoded = decode(model, features, conditioned, asked)
        losses[name] = decoder_loss(decoded, truth, everywhere, scored=True)
        if name == corrected:
            logits = fed_back(decoded)
            wrong = correcting_clicks(logits[:, 0], shrink(masks, side // 2), generator)
            again = decode(model, features, conditioned, asked.and_also(*wrong), logits)
            losses["correction"] = CORRECTION_WEIGHT * decoder_loss(again, truth, everywhere, scored=True)
    return losses
