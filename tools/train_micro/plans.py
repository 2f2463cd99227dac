"""The plans of both phases."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from tools.train_micro.trainer import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePlan(Plan):
    """A phase on images; ``composed`` is the fraction of scenes with cut-outs and shapes."""

    composed: float = 0.35


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipPlan(Plan):
    """A phase on clips; batches cycle through ``lengths``; ``stills`` adds an image to each clip.

    ``forgets`` is the probability that, before a frame, all memories but those of prompted frames are lost,
    as after a long absence.  ``encounters`` is the fraction of scenes in which an object is hidden for a
    while or meets a similar one.  ``unrolled`` is the maximum number of tracked frames of a clip with
    gradients, the last ones; None is all.
    """

    lengths: tuple[int, ...]
    stills: bool = False
    forgets: float = 0.1
    encounters: float = 0.0
    unrolled: int | None = None


# The first plan uses a smaller image size: it costs half as much, and the weights transfer to the full
# size.
IMAGE_PLANS = (
    ImagePlan(name="images-192", image_size=192, steps=3600, batch=32, learning_rate=4e-3, final_rate=0.3),
    ImagePlan(
        name="images-256",
        image_size=256,
        steps=3000,
        batch=16,
        learning_rate=1.5e-3,
        final_rate=0.05,
        warm_up=100,
    ),
)
# The first plan trains tracking over one or two steps, the second plan long-term memory, the third finding an
# object again after an absence, and telling it from a similar one.
CLIP_PLANS = (
    ClipPlan(
        name="clips-short",
        image_size=256,
        steps=600,
        batch=8,
        lengths=(3,),
        learning_rate=1e-3,
        final_rate=0.5,
        encoder_rate=0.25,
        warm_up=100,
        frozen_norms=True,
        validate_every=300,
        save_every=100,
    ),
    ClipPlan(
        name="clips-256",
        image_size=256,
        steps=1700,
        batch=7,
        lengths=(3, 8, 4, 10),
        stills=True,
        learning_rate=1e-3,
        encoder_rate=0.3,
        warm_up=100,
        frozen_norms=True,
        validate_every=400,
        save_every=100,
    ),
    ClipPlan(
        name="clips-long",
        image_size=256,
        steps=400,
        batch=4,
        lengths=(4, 10, 24, 16),
        stills=True,
        encounters=0.6,
        unrolled=10,
        learning_rate=6e-4,
        encoder_rate=0.3,
        warm_up=40,
        frozen_norms=True,
        validate_every=400,
        save_every=50,
    ),
)

AnyPlan = TypeVar("AnyPlan", bound=Plan)


def with_steps(plans: Sequence[AnyPlan], steps: int | None) -> list[AnyPlan]:
    """The plans with another number of steps of the last one, and a warm-up in proportion; None keeps it."""
    last = plans[-1]
    if steps is None:
        return list(plans)
    return [*plans[:-1], replace(last, steps=steps, warm_up=min(last.warm_up, steps // 10))]
