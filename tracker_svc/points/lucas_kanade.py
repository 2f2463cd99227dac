"""Points followed by optical flow between consecutive pictures, without a model.

Source: Lucas and Kanade, 1981; Bouguet, "Pyramidal Implementation of the Affine Lucas Kanade Feature
Tracker", 2001; Kalal et al., "Forward-Backward Error", 2010.  It suits easy footage: a point that is hidden
is lost.
"""

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple, Self, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from maskmesh import telemetry
from maskmesh.masks import ByteArray
from maskmesh.nn.image_features import GreyFeatures
from maskmesh.telemetry import StageRecorder
from tracker_svc.compute.step import Frame
from tracker_svc.points.point_set import PointModel, PointSet, Query, TrackedPoint

# Side of the picture, and of the square around a point that is searched, in pixels.
IMAGE_SIZE = 512
WINDOW = 21
LEVELS = 3

# A point that is followed to the next picture and back must return to within so many pixels.
MAX_ERROR = 1.0


class LucasKanadeModel(PointModel):
    """No model; each set of points keeps the last picture."""

    memory_frames = 0
    frames_at_once = 1

    def new_set(self) -> PointSet:
        return FlowPoints()

    def empty_frame(self) -> Frame:
        return Frame(GreyFeatures(torch.zeros(1, 1, IMAGE_SIZE, IMAGE_SIZE)), IMAGE_SIZE, IMAGE_SIZE)


class NoWeights(nn.Module):
    """The model of the method: it has no weights."""

    def move_to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """There is nothing to move."""
        return self


class _Point(NamedTuple):
    x: float
    """In pixels of the picture; the centre of the first pixel is at 0, as in OpenCV."""
    y: float
    confidence: float
    is_new: bool = False
    """Whether it was chosen on the frame that is tracked next."""


class FlowPoints(PointSet):
    """The points of one stream, and its last picture."""

    def __init__(self) -> None:
        self._points: dict[int, _Point] = {}
        self._previous: ByteArray | None = None

    def add(self, frame: Frame, queries: Sequence[Query], recorder: StageRecorder) -> None:
        side = len(_grey(frame))
        for query in queries:
            x, y = query.x * side / frame.width - 0.5, query.y * side / frame.height - 0.5
            self._points[query.point_id] = _Point(x, y, 1.0, is_new=True)

    def __len__(self) -> int:
        return len(self._points)

    def join(self, others: Self) -> None:
        self._points |= others._points
        if self._previous is None:
            self._previous = others._previous

    def remove(self, point_ids: Collection[int]) -> None:
        self._points = {i: point for i, point in self._points.items() if i not in point_ids}

    def track(self, frames: Sequence[Frame], recorders: Sequence[StageRecorder]) -> list[list[TrackedPoint]]:
        results = []
        for frame, recorder in zip(frames, recorders, strict=True):
            with recorder.stage(telemetry.OPTICAL_FLOW, {telemetry.BATCH_SIZE: len(self._points)}):
                grey = _grey(frame)
                self._move(grey)
                self._previous = grey
                scale_x, scale_y = frame.width / len(grey), frame.height / len(grey)
                results.append(
                    [
                        TrackedPoint(
                            point_id,
                            (p.x + 0.5) * scale_x,
                            (p.y + 0.5) * scale_y,
                            p.confidence > 0,
                            p.confidence,
                        )
                        for point_id, p in self._points.items()
                    ]
                )
        return results

    def _move(self, grey: ByteArray) -> None:
        """Follow the points that are in sight from the last picture to this one."""
        before = self._points
        moving = [i for i, p in before.items() if not p.is_new and p.confidence > 0]
        moved: dict[int, _Point] = {}
        if moving and self._previous is not None:
            starts = np.array([(before[i].x, before[i].y) for i in moving], np.float32).reshape(-1, 1, 2)
            ends, found = _flow(self._previous, grey, starts)
            back, found_back = _flow(grey, self._previous, ends)
            errors = np.hypot(*(back - starts).reshape(-1, 2).T)
            # To the outer edges of the first and the last pixel.
            inside = ((ends >= -0.5) & (ends <= len(grey) - 0.5)).reshape(-1, 2).all(axis=1)
            for i, (x, y), error, is_good in zip(
                moving,
                ends.reshape(-1, 2).tolist(),
                errors.tolist(),
                (found & found_back & inside & (errors <= MAX_ERROR)).tolist(),
                strict=True,
            ):
                moved[i] = _Point(x, y, math.exp(-error)) if is_good else before[i]._replace(confidence=0.0)
        self._points = {i: moved.get(i, p)._replace(is_new=False) for i, p in before.items()}


def _flow(
    first: ByteArray, second: ByteArray, points: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Where points have moved, [N, 1, 2], and whether they were found, [N]."""
    ends, status, _ = cv2.calcOpticalFlowPyrLK(
        first, second, points, points.copy(), winSize=(WINDOW, WINDOW), maxLevel=LEVELS
    )
    return np.asarray(ends, np.float32), status.reshape(-1) == 1


def _grey(frame: Frame) -> ByteArray:
    picture = cast(GreyFeatures, frame.embedding).grey[0, 0]
    return picture.float().cpu().numpy().astype(np.uint8)
