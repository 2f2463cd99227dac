"""The components that follow points: the model, its embeddings, the limit of points."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from maskmesh import telemetry
from maskmesh.errors import ResourceExhausted
from maskmesh.nn.device import synchronizer
from maskmesh.nn.loading import LUCAS_KANADE, POINT_HINT, load_model, point_settings, seeded
from maskmesh.scheduling.cpu_sharing import CorePolicy
from maskmesh.scheduling.device_worker import DeviceWorker
from maskmesh.telemetry import StageRecorder
from maskmesh.types import ModelInfo
from tracker_svc.config import TrackerSettings
from tracker_svc.embeddings.embedding_store import EmbeddingStore
from tracker_svc.embeddings.fetcher import EmbeddingFetcher
from tracker_svc.points.config import POINT_PRESETS, LucasKanadeConfig, PointTrackerConfig
from tracker_svc.points.lucas_kanade import LucasKanadeModel, NoWeights
from tracker_svc.points.motion_tokenizer import MotionTokenizer, load_tokenizer
from tracker_svc.points.point_set import PointModel, Query
from tracker_svc.points.tapir import PointTrackingModel
from tracker_svc.points.tapir_points import TapirModel

# Points of all calls that are followed by optical flow.
MAX_STATELESS_POINTS = 65536

# The encoder's part of a checkpoint of TAPIR.
ENCODER_PREFIXES = ("resnet_torch.", "extra_convs.")


@dataclass(slots=True, kw_only=True)
class PointComponents:
    """What all streams of points share."""

    model: PointModel
    info: ModelInfo
    worker: DeviceWorker
    embeddings: EmbeddingStore
    tokenizer: MotionTokenizer | None
    """The motion tokenizer; None if it is not configured."""
    max_points: int
    """Maximum number of points of all streams."""
    num_points: int = 0
    _seen: set[str] = field(default_factory=set)
    _device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @contextmanager
    def room(self, count: int) -> Iterator["PointRoom"]:
        """Room for the points of one stream, which is given back at the end.  Raises ResourceExhausted."""
        room = PointRoom(self)
        if not room.resize(count):
            raise ResourceExhausted(
                f"the tracker follows {self.num_points} points, and {count} more exceed its limit of "
                f"{self.max_points}",
                resource="points",
            )
        try:
            yield room
        finally:
            room.resize(0)

    def recorder(self, frame_index: int) -> StageRecorder:
        """A recorder of the stages of one frame."""
        return StageRecorder(
            seen=self._seen,
            synchronize=synchronizer(self._device),
            attributes={
                telemetry.DEVICE: self.info.device,
                telemetry.DTYPE: self.info.dtype,
                telemetry.FRAME_INDEX: frame_index,
            },
        )

    async def close(self) -> None:
        """Close the connections."""
        await self.embeddings.close()


class PointRoom:
    """The number of points of one stream that count against the limit."""

    def __init__(self, owner: PointComponents) -> None:
        self._owner = owner
        self.size = 0

    def resize(self, count: int) -> bool:
        """Change the number; returns whether there is room for it, and changes nothing if not."""
        owner = self._owner
        total = owner.num_points - self.size + count
        if total > owner.max_points and count > self.size:
            return False
        owner.num_points, self.size = total, count
        return True


async def start_points(
    settings: TrackerSettings, fetcher: EmbeddingFetcher, worker: DeviceWorker, cores: CorePolicy
) -> PointComponents | None:
    """Load the model for points and warm it up; None if it is not configured.

    Raises CheckpointError, OSError.
    """
    if not settings.point_model:
        return None
    presets: dict[str, PointTrackerConfig | LucasKanadeConfig] = dict(POINT_PRESETS)
    presets[LUCAS_KANADE] = LucasKanadeConfig()
    loaded = await asyncio.to_thread(load_model, point_settings(settings), presets, build, POINT_HINT)
    model: PointModel
    if isinstance(loaded.model, PointTrackingModel):
        model = TapirModel(loaded.model, worker.run_urgent_work)
    else:
        model = LucasKanadeModel()
    components = PointComponents(
        model=model,
        info=loaded.info,
        worker=worker,
        embeddings=EmbeddingStore(
            fetcher, model_id=loaded.info.model_id, budget_bytes=settings.embedding_bytes
        ),
        tokenizer=None
        if settings.motion_checkpoint is None
        else await asyncio.to_thread(load_tokenizer, settings.motion_checkpoint, loaded.device),
        # Without state, points take next to no memory.
        max_points=settings.max_points if isinstance(model, TapirModel) else MAX_STATELESS_POINTS,
        _device=loaded.device,
    )
    with telemetry.tracer().start_as_current_span(telemetry.WARM_UP):
        recorder = components.recorder(0)
        await worker.run(partial(cores.warm_up, partial(_warm_up, model, recorder)))
        telemetry.emit(recorder.records, None)
    return components


def build(
    config: PointTrackerConfig | LucasKanadeConfig, state: Mapping[str, Tensor] | None, dtype: torch.dtype
) -> "PointTrackingModel | NoWeights":
    """Build the tracker's part of a model for points; ``state`` None means untrained weights."""
    if isinstance(config, LucasKanadeConfig):
        return NoWeights()
    model = seeded(lambda: PointTrackingModel(config))
    if state is not None:
        own = {key: value for key, value in state.items() if not key.startswith(ENCODER_PREFIXES)}
        model.load_state_dict(own, strict=True)
    return model.eval().requires_grad_(False)


def _warm_up(model: PointModel, recorder: StageRecorder) -> None:
    points, frame = model.new_set(), model.empty_frame()
    points.add(frame, [Query(0, 1.0, 1.0)], recorder)
    for _ in range(2):
        points.track([frame], [recorder])
