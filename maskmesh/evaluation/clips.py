"""Evaluation of a mesh's masks on clips, from the first mask, a box or a click.

It uses the client only, so it can evaluate any model that a mesh serves on any folder.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, TypeAlias

from maskmesh.client.async_client import AsyncClient
from maskmesh.evaluation.mask_metrics import (
    bounding_box,
    contour_accuracy,
    innermost_point,
    region_similarity,
)
from maskmesh.evaluation.truth import TrueFrame
from maskmesh.masks import BoolArray, RleMask
from maskmesh.types import ObjectMask

Progress = Callable[[int], None]

PromptKind: TypeAlias = Literal["click", "box", "mask"]
"""How the objects of a clip are prompted on its first frame."""


@dataclass(frozen=True, slots=True)
class ObjectScores:
    """Scores of one object over a clip, without the first (prompted) and the last frame, as in DAVIS.

    ``j`` and ``f`` are means over these frames; an empty mask on a frame without the object scores 1.
    ``j_in_sight`` is the mean J on the frames that show the object, ``late_j`` that on the last five of
    them; both are None if no frame shows it.  ``sight`` is the share of frames on which the sign of the
    object score is right: positive if the frame shows the object.
    """

    name: str
    obj_id: int
    j: float
    f: float
    j_in_sight: float | None
    late_j: float | None
    sight: float


LATE_FRAMES = 5


async def evaluate_clip(
    client: AsyncClient,
    name: str,
    frames: Sequence[TrueFrame],
    progress: Progress = lambda done: None,
    *,
    prompt: PromptKind = "click",
) -> list[ObjectScores]:
    """Score the objects of a clip's first frame, each from one prompt there.

    The prompt is one click at the innermost point, the box, or the true mask.

    Raises ValueError if the first frame shows no object, or the clip has fewer than three frames.
    """
    if len(frames) < 3:
        raise ValueError(f"{name} has {len(frames)} frames; the first and the last do not count")
    found: dict[int, list[ObjectMask]] = {obj_id: [] for obj_id in frames[0].objects()}
    if not found:
        raise ValueError(f"{name} has no object on its first frame")
    async with client.session() as session:
        await session.append_frames(frame.image for frame in frames)
        for obj_id in found:
            true = frames[0].mask(obj_id)
            match prompt:
                case "click":
                    await session.add_prompt(0, obj_id, points=[innermost_point(true)])
                case "box":
                    await session.add_prompt(0, obj_id, box=bounding_box(true))
                case "mask":
                    await session.add_prompt(0, obj_id, mask=true)
        async for tracked in session.propagate():
            for obj_id, mask_found in tracked.objects.items():
                found[obj_id].append(mask_found)
            progress(tracked.frame_index + 1)
    return [
        score_object(name, obj_id, masks, [frame.mask(obj_id) for frame in frames])
        for obj_id, masks in found.items()
    ]


def score_object(
    name: str, obj_id: int, found: Sequence[ObjectMask], true: Sequence[BoolArray]
) -> ObjectScores:
    """Compare one object's masks with the true ones, frame by frame; see :class:`ObjectScores`."""
    counted = range(1, len(true) - 1)
    regions = [region_similarity(decoded_mask(found[i]), true[i]) for i in counted]
    contours = [contour_accuracy(decoded_mask(found[i]), true[i]) for i in counted]
    visibility = [bool(true[i].any()) for i in counted]
    in_sight = [j for j, visible in zip(regions, visibility, strict=True) if visible]
    right = [
        (found[i].object_score_logit > 0) == visible for i, visible in zip(counted, visibility, strict=True)
    ]
    return ObjectScores(
        name,
        obj_id,
        j=fmean(regions),
        f=fmean(contours),
        j_in_sight=fmean(in_sight) if in_sight else None,
        late_j=fmean(in_sight[-LATE_FRAMES:]) if in_sight else None,
        sight=fmean(right),
    )


def decoded_mask(found: ObjectMask) -> BoolArray:
    """A mask as the evaluation requests it: [H, W], bool."""
    assert isinstance(found.mask, RleMask), "the evaluation requests COCO RLE"
    return found.mask.decode()
