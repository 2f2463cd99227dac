"""Evaluation of concepts: the objects that a phrase finds, compared with the true ones.

Found and true objects are matched one to one so that the sum of their IoUs is largest (Kuhn, "The Hungarian
Method for the Assignment Problem", 1955).  Needs SciPy (the extra ``evaluate``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from scipy.optimize import linear_sum_assignment

from maskmesh.client.async_client import AsyncClient
from maskmesh.evaluation.clips import Progress
from maskmesh.evaluation.mask_metrics import region_similarity
from maskmesh.evaluation.truth import TrueFrame
from maskmesh.masks import RleMask

# Least IoU at which a found object is a true one.
MATCH_IOU = 0.5


@dataclass(frozen=True, slots=True)
class ConceptScores:
    """The objects of one image or clip.

    ``ious`` has the IoU of each true object with the found object that it is matched with, 0 for none; in
    clips it is the mean over all frames.
    """

    name: str
    ious: Sequence[float]
    num_found: int

    @property
    def num_matched(self) -> int:
        """The number of found objects that are true."""
        return sum(iou >= MATCH_IOU for iou in self.ious)


async def evaluate_image_concepts(
    client: AsyncClient, frames: Sequence[TrueFrame], phrase: str, progress: Progress = lambda done: None
) -> list[ConceptScores]:
    """Score what a phrase finds on each image.  Raises ValueError if no mask shows an object."""
    scores = []
    for done, frame in enumerate(frames, start=1):
        [concept] = (await client.segment_concepts(frame.image, phrase)).concepts
        found = [_rle(instance.mask).decode() for instance in concept.instances]
        true = [frame.mask(obj_id) for obj_id in frame.objects()]
        ious = matched_ious([[region_similarity(f, t) for f in found] for t in true])
        scores.append(ConceptScores(frame.name, ious, len(found)))
        progress(done)
    if not any(score.ious for score in scores):
        raise ValueError("no mask shows an object")
    return scores


async def evaluate_clip_concept(
    client: AsyncClient,
    name: str,
    frames: Sequence[TrueFrame],
    phrase: str,
    progress: Progress = lambda done: None,
) -> ConceptScores:
    """Score what a phrase finds and follows in a clip.  Raises ValueError if no mask shows an object."""
    true_ids = sorted({obj_id for frame in frames for obj_id in frame.objects()})
    if not true_ids:
        raise ValueError("no mask shows an object")
    nothing = RleMask.encode(np.zeros(frames[0].labels.shape, dtype=np.bool_))
    found: dict[int, list[RleMask]] = {}  # decoded when they are compared, because all of them are large
    async with client.session() as session:
        await session.append_frames(frame.image for frame in frames)
        await session.add_concept(1, phrase)
        async for tracked in session.propagate():
            for obj_id, mask in tracked.objects.items():
                masks = found.setdefault(obj_id, [nothing] * len(frames))
                masks[tracked.frame_index] = _rle(mask.mask)
            progress(tracked.frame_index + 1)
    ious = [
        [
            fmean(
                region_similarity(mask.decode(), frame.mask(obj_id))
                for frame, mask in zip(frames, masks, strict=True)
            )
            for masks in found.values()
        ]
        for obj_id in true_ids
    ]
    return ConceptScores(name, matched_ious(ious), len(found))


def matched_ious(ious: Sequence[Sequence[float]]) -> list[float]:
    """The IoU of each true object with its match; ``ious`` has a row for each true, a column for each found
    object.
    """
    values = np.array(ious, ndmin=2)
    best = [0.0] * len(ious)
    if values.size:
        for row, column in zip(*linear_sum_assignment(values, maximize=True), strict=True):
            best[row] = float(values[row, column])
    return best


def _rle(mask: object) -> RleMask:
    assert isinstance(mask, RleMask), "the evaluation requests COCO RLE"
    return mask
