"""The second phase: objects followed through clips, with memory."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tools.train_micro.compose import Composer, degrade
from tools.train_micro.images import Asked, box, click, decode, fed_back, shrink
from tools.train_micro.losses import decoder_loss
from tools.train_micro.micro import Micro, take
from tools.train_micro.prompts import correcting_clicks, sample_box, sample_click
from tools.train_micro.rollout import Rollout
from tools.train_micro.trainer import Plan

OBJECTS = 2

# An object of which less is seen counts as out of sight, in pixels of the model's input.
MIN_SIGHT = 16

# How often what is prompted first is a click or a box; else it is a mask.
FIRST_PROMPTS = {"click": 0.6, "box": 0.85}
FIRST_CORRECTED = 0.3
LATER_CORRECTED = 0.3
CORRECTION_WEIGHT = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipPlan(Plan):
    """A phase on clips: of so many frames, turn about by batch."""

    lengths: tuple[int, ...]


class Clips(Dataset[dict[str, Tensor]]):
    """One random scene in motion for each index: equal for equal seeds, lengths and batch size."""

    def __init__(
        self, composer: Composer, seeds: tuple[int, ...], lengths: tuple[int, ...], *, batch: int
    ) -> None:
        self.composer = composer
        self.seeds = seeds
        self.lengths = lengths
        self.batch = batch

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Frames [T, S, S, 3], masks [T, OBJECTS, S, S], and a click and a box for each object."""
        random = np.random.default_rng((*self.seeds, index))
        length = self.lengths[index // self.batch % len(self.lengths)]
        scene, visible = self.composer.clip_scene(random, length)
        layers = random.permutation(visible)[:OBJECTS]
        # A scene with a single object asks for it twice, in different ways.
        layers = np.resize(layers, OBJECTS)
        size = self.composer.size
        first = [scene.masks[0, layer] for layer in layers]
        return {
            "frames": torch.from_numpy(degrade(scene.frames, random)),
            "masks": torch.from_numpy(scene.masks[:, layers]),
            "click": torch.from_numpy(np.stack([sample_click(m, random)[None] for m in first]) / size),
            "box": torch.from_numpy(np.stack([sample_box(m, random) for m in first]) / size),
        }


def clips_loss(model: Micro, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """Losses of the prompted frame, of tracked frames, and of corrections on either."""
    clips, length = batch["frames"].shape[:2]
    features = model.encode(batch["frames"].flatten(0, 1))
    truths = batch["masks"].transpose(0, 1).flatten(1, 2)  # [T, clips * OBJECTS, S, S]
    rows = torch.arange(clips, device=truths.device).repeat_interleave(OBJECTS) * length
    chance = torch.rand(3, generator=generator).tolist()
    correction = int(torch.randint(1, length, (), generator=generator)) if chance[2] < LATER_CORRECTED else 0
    losses: dict[str, list[Tensor]] = {"first": [], "tracked": [], "corrected": []}
    rollout = Rollout(model.tracker)

    first = take(features, rows)
    if chance[0] < FIRST_PROMPTS["box"]:
        asked = _first_prompt(batch, is_click=chance[0] < FIRST_PROMPTS["click"])
        conditioned = model.tracker.without_memory(first)
        everything = torch.ones(len(rows), dtype=torch.bool, device=truths.device)
        truth = shrink(truths[0], model.size // 2)
        decoded = decode(model, first, conditioned, asked)
        losses["first"].append(decoder_loss(decoded, truth, everything, scored=True))
        if chance[1] < FIRST_CORRECTED:
            logits = fed_back(decoded)
            asked = asked.and_also(
                *correcting_clicks(logits[:, 0], shrink(truths[0], model.size // 4), generator)
            )
            decoded = decode(model, first, conditioned, asked, logits)
            losses["corrected"].append(
                CORRECTION_WEIGHT * decoder_loss(decoded, truth, everything, scored=True)
            )
        rollout.prompt(first, decoded, ambiguous=asked.points.shape[1] == 1)
    else:
        rollout.adopt(first, truths[0][:, None].float())

    for step in range(1, length):
        frame = take(features, rows + step)
        in_sight = truths[step].sum(dim=(1, 2)) >= MIN_SIGHT
        truth = shrink(truths[step], model.size // 2)
        conditioned, decoded = rollout.attend(frame)
        losses["tracked"].append(decoder_loss(decoded, truth, in_sight, scored=True))
        # A correction makes the memories around it doubtful, and all objects must agree in their number.
        if step != correction or not in_sight.all():
            rollout.track(frame, decoded)
            continue
        logits = fed_back(decoded)
        points, labels = correcting_clicks(logits[:, 0], shrink(truths[step], model.size // 4), generator)
        again = decode(model, frame, conditioned, Asked(points, labels), logits)
        losses["corrected"].append(CORRECTION_WEIGHT * decoder_loss(again, truth, in_sight, scored=True))
        rollout.prompt(frame, again, ambiguous=True)
    return {name: torch.stack(values).mean() for name, values in losses.items() if values}


def _first_prompt(batch: dict[str, Tensor], *, is_click: bool) -> Asked:
    return click(batch["click"].flatten(0, 1)) if is_click else box(batch["box"].flatten(0, 1))
