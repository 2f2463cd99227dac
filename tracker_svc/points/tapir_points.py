"""The points of one stream, tracked by TAPIR."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Self, cast

import torch

from maskmesh import telemetry
from maskmesh.nn.image_features import PointFeatures
from maskmesh.nn.preemption import Preemption
from maskmesh.telemetry import StageRecorder
from tracker_svc.compute.step import Frame
from tracker_svc.points.mixer import MixerState
from tracker_svc.points.point_set import PointModel, PointSet, Query, TrackedPoint
from tracker_svc.points.tapir import PointEstimate, PointQueries, PointTrackingModel

# Points that are computed together: enough for fast matrix products, few enough for the caches.
POINTS_AT_ONCE = 128

# The confidence above which a point counts as visible.
VISIBLE = 0.5


class TapirModel(PointModel):
    """TAPIR on a device; interactive work interrupts it."""

    # Four frames of many points fill the matrix products of the mixer.
    frames_at_once = 4

    def __init__(self, model: PointTrackingModel, run_urgent_work: Callable[[], bool]) -> None:
        self.memory_frames = model.config.memory_frames
        self.model = model
        self.preemption = Preemption(model, run_urgent_work)

    def new_set(self) -> PointSet:
        return TapirPoints(self)

    def empty_frame(self) -> Frame:
        config, weight = self.model.config, self.model.torch_pips_mixer.linear.weight
        side = config.image_size // 8
        features = PointFeatures(
            weight.new_zeros(1, config.low_res_dim, side, side),
            weight.new_zeros(1, config.high_res_dim, 2 * side, 2 * side),
        )
        return Frame(features, config.image_size, config.image_size)


class TapirPoints(PointSet):
    """Query features and mixer states of the points of one stream."""

    def __init__(self, owner: TapirModel) -> None:
        self._model = owner.model
        self._preemption = owner.preemption
        self._point_ids: list[int] = []
        self._queries: PointQueries | None = None
        self._states: list[MixerState] = owner.model.initial_state(0)

    @torch.inference_mode()
    def add(self, frame: Frame, queries: Sequence[Query], recorder: StageRecorder) -> None:
        with recorder.stage(telemetry.POINT_QUERY, {telemetry.BATCH_SIZE: len(queries)}):
            features = _features([frame])
            size = self._model.config.image_size
            shares = torch.tensor([(q.x / frame.width, q.y / frame.height) for q in queries]) * size
            found = self._model.query_features(features, shares.to(features.point_features.device))
            self._append(
                [query.point_id for query in queries], found, self._model.initial_state(len(queries))
            )

    def __len__(self) -> int:
        return len(self._point_ids)

    @torch.inference_mode()
    def join(self, others: Self) -> None:
        if others._queries is not None:
            self._append(others._point_ids, others._queries, others._states)

    @torch.inference_mode()
    def remove(self, point_ids: Collection[int]) -> None:
        rows = [row for row, point_id in enumerate(self._point_ids) if point_id not in point_ids]
        self._point_ids = [self._point_ids[row] for row in rows]
        if self._queries is not None:
            self._queries = PointQueries(*(values[rows] for values in self._queries))
        self._states = [MixerState(*(values[:, rows] for values in state)) for state in self._states]

    def _append(self, point_ids: list[int], queries: PointQueries, states: list[MixerState]) -> None:
        before = self._queries
        self._queries = (
            queries
            if before is None
            else PointQueries(*(torch.cat(p) for p in zip(before, queries, strict=True)))
        )
        self._states = [
            MixerState(*(torch.cat(parts, dim=1) for parts in zip(*pair, strict=True)))
            for pair in zip(self._states, states, strict=True)
        ]
        self._point_ids = [*self._point_ids, *point_ids]

    @torch.inference_mode()
    def track(self, frames: Sequence[Frame], recorders: Sequence[StageRecorder]) -> list[list[TrackedPoint]]:
        if self._queries is None or not self._point_ids:
            return [[] for _ in frames]
        features = _features(frames)
        estimates = []
        for rows in _slices(len(self._point_ids)):
            queries = PointQueries(*(values[rows] for values in self._queries))
            # Views: the states change in place.
            before = [MixerState(*(values[:, rows] for values in state)) for state in self._states]
            attributes: telemetry.Attributes = {telemetry.BATCH_SIZE: len(queries.low_res)}
            with telemetry.stages(recorders, telemetry.POINT_INITIALIZE, attributes):
                initial = self._model.initialize(features, queries)
            with (
                telemetry.stages(recorders, telemetry.POINT_REFINE, attributes),
                self._preemption.enabled(recorders),
            ):
                estimates.append(self._model.refine(features, queries, initial, before)[-1])
        estimate = PointEstimate(*(torch.cat(parts) for parts in zip(*estimates, strict=True)))
        return self._tracked(estimate, frames)

    def _tracked(self, estimate: PointEstimate, frames: Sequence[Frame]) -> list[list[TrackedPoint]]:
        shares = (estimate.positions / self._model.config.image_size).cpu()
        confidences = estimate.confidence.cpu()
        return [
            [
                TrackedPoint(point_id, x * frame.width, y * frame.height, confidence > VISIBLE, confidence)
                for point_id, (x, y), confidence in zip(
                    self._point_ids, shares[:, t].tolist(), confidences[:, t].tolist(), strict=True
                )
            ]
            for t, frame in enumerate(frames)
        ]


def _features(frames: Sequence[Frame]) -> PointFeatures:
    """The embeddings of frames as a batch."""
    maps: list[PointFeatures] = [cast(PointFeatures, frame.embedding) for frame in frames]
    return PointFeatures(*(torch.cat(group) for group in zip(*maps, strict=True)))


def _slices(count: int) -> Iterator[slice]:
    for start in range(0, count, POINTS_AT_ONCE):
        yield slice(start, start + POINTS_AT_ONCE)
