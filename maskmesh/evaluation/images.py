"""Evaluation of single images: masks from a click, corrective clicks, and a box."""

from collections.abc import Sequence
from dataclasses import dataclass

from maskmesh.client.async_client import AsyncClient
from maskmesh.evaluation.clips import Progress, decoded_mask
from maskmesh.evaluation.mask_metrics import (
    bounding_box,
    corrective_click,
    innermost_point,
    region_similarity,
)
from maskmesh.evaluation.truth import TrueFrame
from maskmesh.masks import BoolArray
from maskmesh.media.pictures import ImageLike
from maskmesh.types import Prompt


@dataclass(frozen=True, slots=True)
class ImageScores:
    """IoU of one object of one image, prompted by a click and by a box.

    ``corrected`` are the IoUs after the second and each later click, if there were any.
    """

    name: str
    click: float
    box: float
    corrected: Sequence[float] = ()

    def after(self, clicks: int) -> float | None:
        """The IoU after so many clicks, None if there were fewer."""
        if clicks == 1:
            return self.click
        return self.corrected[clicks - 2] if clicks - 2 < len(self.corrected) else None


async def evaluate_images(
    client: AsyncClient,
    frames: Sequence[TrueFrame],
    progress: Progress = lambda done: None,
    *,
    clicks: int = 1,
) -> list[ImageScores]:
    """Score every object of every image, from one click at its innermost point and from its box.

    A click is ambiguous, so the most confident of three masks counts; for a box one mask is requested.  With
    more ``clicks``, each later one corrects the mask before, see :func:`corrective_click`.  Raises ValueError
    if no mask shows an object.
    """
    scores = []
    for done, frame in enumerate(frames, start=1):
        objects = frame.objects()
        for obj_id in objects:
            true = frame.mask(obj_id)
            click = {obj_id: Prompt(points=[innermost_point(true)])}
            box = {obj_id: Prompt(box=bounding_box(true))}
            clicked = await client.segment_image(frame.image, click, multimask_output=True)
            boxed = await client.segment_image(frame.image, box)
            click_iou, box_iou = (
                region_similarity(decoded_mask(found.objects[obj_id][0]), true) for found in (clicked, boxed)
            )
            corrected = await _corrected(client, frame.image, true, clicks) if clicks > 1 else ()
            name = frame.name if len(objects) == 1 else f"{frame.name}:{obj_id}"
            scores.append(ImageScores(name, click_iou, box_iou, corrected))
        progress(done)
    if not scores:
        raise ValueError("no mask shows an object")
    return scores


async def _corrected(
    client: AsyncClient, image: ImageLike, true: BoolArray, clicks: int
) -> tuple[float, ...]:
    """The IoUs after the second and each later click, in a session that refines the mask before."""
    ious = []
    async with client.session() as session:
        await session.append_frames([image])
        click = innermost_point(true)
        for _ in range(clicks):
            found = await session.add_prompt(0, 1, points=[click])
            mask = decoded_mask(found.objects[1])
            ious.append(region_similarity(mask, true))
            click = corrective_click(mask, true)
    return tuple(ious[1:])
