"""Evaluation of followed points on clips drawn with known motion.

Source of the measures: Doersch et al., "TAP-Vid: A Benchmark for Tracking Any Point in a Video", 2022.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from maskmesh.client.async_client import AsyncClient
from maskmesh.evaluation.drawn_clips import HEIGHT, WIDTH, DrawnClip, PathArray
from maskmesh.masks import BoolArray
from maskmesh.points import PointQuery

# Distances that count as right, in pixels of a frame of SIDE squared.
THRESHOLDS = (1, 2, 4, 8, 16)
SIDE = 256


@dataclass(frozen=True, slots=True)
class PointScores:
    """Scores of one clip, 0 to 1, over the frames after the first.

    ``average_jaccard`` counts positions and visibility together, ``position_accuracy`` the positions of
    points that are visible, both averaged over the thresholds; ``occlusion_accuracy`` counts visibility.
    """

    clip: str
    average_jaccard: float
    position_accuracy: float
    occlusion_accuracy: float


async def evaluate_points(
    client: AsyncClient, clip: DrawnClip, on_frame: Callable[[int], None]
) -> PointScores:
    """Follow the points of a clip's first frame.  ``on_frame`` is called with the number of frames done."""
    queries = [PointQuery(number, 0, float(x), float(y)) for number, (x, y) in enumerate(clip.paths[:, 0])]
    found = np.zeros_like(clip.paths)
    visible = np.zeros_like(clip.visible)
    async with client.session() as session:
        await session.append_frames(clip.frames)
        async for frame in session.track_points(queries):
            for number, point in frame.points.items():
                found[number, frame.frame_index] = point.x, point.y
                visible[number, frame.frame_index] = point.visible
            on_frame(frame.frame_index + 1)
    return score_points(clip, found, visible)


def score_points(clip: DrawnClip, found: PathArray, visible: BoolArray) -> PointScores:
    """Scores of paths [points, frames, 2], and of visibility [points, frames]."""
    true_visible, said_visible = clip.visible[:, 1:], visible[:, 1:]
    scale = np.array([SIDE / WIDTH, SIDE / HEIGHT])
    distance = np.linalg.norm((found - clip.paths)[:, 1:] * scale, axis=-1)
    accuracies, jaccards = [], []
    for threshold in THRESHOLDS:
        near = distance < threshold
        accuracies.append((near & true_visible).sum() / true_visible.sum())
        right = (near & true_visible & said_visible).sum()
        wrong = (said_visible & ~(near & true_visible)).sum()
        missed = (true_visible & ~(near & said_visible)).sum()
        jaccards.append(right / (right + wrong + missed))
    return PointScores(
        clip.name,
        float(np.mean(jaccards)),
        float(np.mean(accuracies)),
        float(np.mean(true_visible == said_visible)),
    )
