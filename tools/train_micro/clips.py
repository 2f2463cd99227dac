"""The second phase of training: tracking objects through clips, with memory."""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tools.train_micro.images import (
    Points,
    Stills,
    box,
    click,
    corrected,
    decode,
    images_loss,
    shrink,
)
from tools.train_micro.losses import decoder_loss
from tools.train_micro.micro import Micro, take
from tools.train_micro.prompts import rough_logits, sample_box, sample_click
from tools.train_micro.rollout import Rollout
from tools.train_micro.scenes.compose import Composer
from tools.train_micro.scenes.lighting import degrade

OBJECTS = 2

# An object with fewer visible pixels of the model's input counts as out of sight.
MIN_SIGHT = 16

# Cumulative probabilities of the kinds of first prompts; otherwise a mask is the prompt.  About half are
# masks, as in SAM 2 (Ravi et al., 2024): after a click that gives a part, tracking would have to turn that
# part into the whole.
FIRST_PROMPTS = {"click": 0.25, "box": 0.5, "logits": 0.56}

# Probabilities of corrections on the first frame and on a later frame, and the maximum number on the first.
FIRST_CORRECTED = 0.3
MOST_CORRECTIONS = 3
LATER_CORRECTED = 0.3
CORRECTION_WEIGHT = 0.5

STILL = "still_"
STILLS_WEIGHT = 0.4


class Clips(Dataset[dict[str, Tensor]]):
    """A random moving scene for each index, deterministic in seeds, lengths and batch size."""

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
        # A scene with a single object is used twice, with different prompts.
        layers = np.resize(layers, OBJECTS)
        first = [scene.masks[0, layer] for layer in layers]
        return {
            "frames": torch.from_numpy(degrade(scene.frames, random)),
            "masks": torch.from_numpy(scene.masks[:, layers]),
            "click": torch.from_numpy(np.stack([sample_click(m, random)[None] for m in first])),
            "box": torch.from_numpy(np.stack([sample_box(m, random) for m in first])),
        }


class ClipsAndStills(Dataset[dict[str, Tensor]]):
    """A clip and an image for each index, so that the second phase keeps the skills of the first phase."""

    def __init__(self, clips: Clips, stills: Stills) -> None:
        self.clips = clips
        self.stills = stills

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """The values of both; the names of the image's values have the prefix ``still_``."""
        return self.clips[index] | {f"{STILL}{k}": v for k, v in self.stills[index].items()}


def clips_and_stills_loss(
    model: Micro,
    batch: dict[str, Tensor],
    generator: torch.Generator,
    *,
    forgets: float = 0.0,
    unrolled: int | None = None,
) -> dict[str, Tensor]:
    """The losses of clips and images; images have a lower weight."""
    stills = {k.removeprefix(STILL): v for k, v in batch.items() if k.startswith(STILL)}
    losses = images_loss(model, stills, generator)
    weighted = {f"{STILL}{name}": STILLS_WEIGHT * loss for name, loss in losses.items()}
    return clips_loss(model, batch, generator, forgets=forgets, unrolled=unrolled) | weighted


def clips_loss(
    model: Micro,
    batch: dict[str, Tensor],
    generator: torch.Generator,
    *,
    forgets: float = 0.0,
    unrolled: int | None = None,
) -> dict[str, Tensor]:
    """The losses of the prompted frame, of tracked frames, and of corrections on both.

    ``unrolled`` is the maximum number of tracked frames with gradients, the last of a clip; those before only
    fill the memory.  None is all.
    """
    clips, length = batch["frames"].shape[:2]
    features = model.encode(batch["frames"].flatten(0, 1))
    truths = batch["masks"].transpose(0, 1).flatten(1, 2)  # [T, clips * OBJECTS, S, S]
    rows = torch.arange(clips, device=truths.device).repeat_interleave(OBJECTS) * length
    chance = torch.rand(3, generator=generator).tolist()
    correction = int(torch.randint(1, length, (), generator=generator)) if chance[2] < LATER_CORRECTED else 0
    losses: dict[str, list[Tensor]] = {"first": [], "tracked": [], "corrected": []}
    rollout = Rollout(model.tracker)

    kind = next((name for name, bound in FIRST_PROMPTS.items() if chance[0] < bound), "mask")
    first = take(features, rows)
    if kind == "mask":
        rollout.adopt(first, truths[0][:, None].float())
    else:
        points, logits = _first_prompt(kind, batch, truths[0], model, generator)
        conditioned = model.tracker.without_memory(first)
        in_sight = torch.ones(len(rows), dtype=torch.bool, device=truths.device)
        truth = shrink(truths[0], model.size // 2)
        decoded = decode(model, first, conditioned, points, logits)
        losses["first"].append(decoder_loss(decoded, truth, in_sight, scored=True))
        rounds = int(torch.randint(1, MOST_CORRECTIONS + 1, (), generator=generator))
        for _ in range(rounds if chance[1] < FIRST_CORRECTED else 0):
            points, logits = corrected(model, decoded, points, truths[0], generator)
            decoded = decode(model, first, conditioned, points, logits)
            loss = decoder_loss(decoded, truth, in_sight, scored=True)
            losses["corrected"].append(CORRECTION_WEIGHT * loss)
        rollout.prompt(first, decoded, ambiguous=points.ambiguous)

    for step in range(1, length):
        frame = take(features, rows + step)
        in_sight = truths[step].sum(dim=(1, 2)) >= MIN_SIGHT
        if torch.rand((), generator=generator) < forgets:
            rollout.forget()
        if unrolled is not None and step < length - unrolled:
            with torch.no_grad():
                rollout.track(frame, rollout.attend(frame)[1])
            continue
        truth = shrink(truths[step], model.size // 2)
        conditioned, decoded = rollout.attend(frame)
        losses["tracked"].append(decoder_loss(decoded, truth, in_sight, scored=True))
        # A correction clears the memories around it; all objects must have equal numbers of memories.
        if step != correction or not in_sight.all():
            rollout.track(frame, decoded)
            continue
        points, logits = corrected(model, decoded, _no_points(rows), truths[step], generator)
        again = decode(model, frame, conditioned, points, logits)
        losses["corrected"].append(CORRECTION_WEIGHT * decoder_loss(again, truth, in_sight, scored=True))
        rollout.prompt(frame, again, ambiguous=points.ambiguous)
    return {name: torch.stack(values).mean() for name, values in losses.items() if values}


def _first_prompt(
    kind: str, batch: dict[str, Tensor], masks: Tensor, model: Micro, generator: torch.Generator
) -> tuple[Points, Tensor | None]:
    """Points, or logits without points; masks: [B, S, S] bool."""
    if kind == "click":
        return click(batch["click"].flatten(0, 1)), None
    if kind == "box":
        return box(batch["box"].flatten(0, 1)), None
    return _no_points(masks), rough_logits(shrink(masks, model.size // 4), generator)


def _no_points(like: Tensor) -> Points:
    """Empty points for each row of ``like``."""
    coords = torch.zeros(len(like), 0, 2, device=like.device)
    return Points(coords, torch.zeros(len(like), 0, dtype=torch.long, device=like.device))
