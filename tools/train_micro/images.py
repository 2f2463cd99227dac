"""The first phase of training: prompts on single images."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from maskmesh.nn.image_features import ImageFeatures
from tools.train_micro.losses import decoder_loss
from tools.train_micro.micro import Micro, take
from tools.train_micro.prompts import correcting_clicks, sample_box, sample_click
from tools.train_micro.rollout import chosen
from tools.train_micro.scenes.compose import Composer
from tools.train_micro.scenes.lighting import degrade
from tracker_svc.compute.prompt_tensors import PREVIOUS_LOGIT_LIMIT
from tracker_svc.model.mask_decoder import DecodedMasks
from tracker_svc.model.prompt_encoder import PointLabel

CORRECTION_WEIGHT = 0.5

# Clicks, and boxes, on each image: its features are computed once, and decoding is cheap.
PROMPTS = 2


@dataclass(frozen=True, slots=True)
class Points:
    """Prompts of B objects: points [B, N, 2], xy in pixels of the model's input, and labels [B, N]."""

    coords: Tensor
    labels: Tensor

    def and_also(self, coords: Tensor, labels: Tensor) -> "Points":
        """A copy with more points appended."""
        return Points(torch.cat((self.coords, coords), dim=1), torch.cat((self.labels, labels), dim=1))

    @property
    def ambiguous(self) -> bool:
        """Whether a session selects one of three masks for this prompt."""
        return self.coords.shape[1] <= 1


class Stills(Dataset[dict[str, Tensor]]):
    """A random scene of one frame for each index, deterministic in the seeds."""

    def __init__(self, composer: Composer, seeds: tuple[int, ...]) -> None:
        self.composer = composer
        self.seeds = seeds

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """A frame [S, S, 3], clicks [PROMPTS, 1, 2], boxes [PROMPTS, 2, 2], the masks of their objects."""
        random = np.random.default_rng((*self.seeds, index))
        scene, objects = self.composer.still_scene(random)
        # A scene with few objects is prompted again, by other clicks and boxes.
        chosen = [int(number) for number in np.resize(random.permutation(objects), 2 * PROMPTS)]
        clicked, boxed = scene.masks[0, chosen[:PROMPTS]], scene.masks[0, chosen[PROMPTS:]]
        return {
            "frame": torch.from_numpy(degrade(scene.frames, random)[0]),
            "click": torch.from_numpy(np.stack([sample_click(mask, random)[None] for mask in clicked])),
            "clicked": torch.from_numpy(clicked),
            "box": torch.from_numpy(np.stack([sample_box(mask, random) for mask in boxed])),
            "boxed": torch.from_numpy(boxed),
        }


def click(coords: Tensor) -> Points:
    """One positive click for each object; coords: [B, 1, 2]."""
    return Points(coords, torch.full(coords.shape[:2], PointLabel.POSITIVE, device=coords.device))


def box(corners: Tensor) -> Points:
    """One box for each object; corners: [B, 2, 2]."""
    labels = torch.tensor([[PointLabel.BOX_TOP_LEFT, PointLabel.BOX_BOTTOM_RIGHT]], device=corners.device)
    return Points(corners, labels.expand(corners.shape[0], -1))


def decode(
    model: Micro, features: ImageFeatures, conditioned: Tensor, points: Points, logits: Tensor | None = None
) -> DecodedMasks:
    """All four masks of B objects, each on its own frame; logits to correct: [B, 1, S / 4, S / 4]."""
    tracker = model.tracker
    prompts = tracker.encode_prompts(points.coords, points.labels, logits)
    decoded: DecodedMasks = tracker.sam_mask_decoder.decode_all(
        conditioned,
        tracker.sam_prompt_encoder.image_positions(),
        prompts.sparse_embeddings,
        prompts.dense_embeddings,
        features.high_res_features,
    )
    return decoded


def shrink(masks: Tensor, side: int) -> Tensor:
    """The coverage of each cell by a mask: [B, S, S] bool to [B, side, side], 0 to 1."""
    return F.adaptive_avg_pool2d(masks[:, None].float(), side)[:, 0]


def fed_back(model: Micro, decoded: DecodedMasks, points: Points) -> Tensor:
    """The logits that a session feeds back for a correction: [B, 1, S / 4, S / 4], without gradients."""
    with torch.no_grad():
        predicted = model.tracker.select(chosen(decoded, ambiguous=points.ambiguous))
    return predicted.low_res_masks.clamp(-PREVIOUS_LOGIT_LIMIT, PREVIOUS_LOGIT_LIMIT)


def corrected(
    model: Micro, decoded: DecodedMasks, points: Points, masks: Tensor, generator: torch.Generator
) -> tuple[Points, Tensor]:
    """The points with one correcting click more, and the logits to correct; masks: [B, S, S] bool."""
    logits = fed_back(model, decoded, points)
    truth = shrink(masks, logits.shape[-1])
    cell = model.size / logits.shape[-1]
    return points.and_also(*correcting_clicks(logits[:, 0], truth, cell, generator)), logits


def images_loss(model: Micro, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """The losses of clicks, boxes and corrections."""
    frames = batch["frame"]
    rows = torch.arange(len(frames), device=frames.device).repeat_interleave(PROMPTS)
    features = take(model.encode(frames), rows)
    conditioned = model.tracker.without_memory(features)
    losses = {}
    in_sight = torch.ones(len(rows), dtype=torch.bool, device=frames.device)
    # Each step corrects one of the two kinds, chosen at random.
    to_correct = "click" if torch.rand((), generator=generator) < 0.5 else "box"
    for name, points, masks in (
        ("click", click(batch["click"].flatten(0, 1)), batch["clicked"].flatten(0, 1)),
        ("box", box(batch["box"].flatten(0, 1)), batch["boxed"].flatten(0, 1)),
    ):
        truth = shrink(masks, model.size // 2)
        decoded = decode(model, features, conditioned, points)
        losses[name] = decoder_loss(decoded, truth, in_sight, scored=True)
        if name == to_correct:
            more, logits = corrected(model, decoded, points, masks, generator)
            again = decode(model, features, conditioned, more, logits)
            losses["correction"] = CORRECTION_WEIGHT * decoder_loss(again, truth, in_sight, scored=True)
    return losses
