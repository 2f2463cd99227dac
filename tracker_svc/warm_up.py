"""Pay for what first runs cost before anybody waits."""

import time

import torch

from maskmesh import telemetry
from maskmesh.device_worker import DeviceWorker
from maskmesh.masks import MaskOptions
from maskmesh.types import Point, Prompt
from tracker_svc.model.tracking_model import ImageFeatures, TrackingModel
from tracker_svc.objects import TrackedObject
from tracker_svc.output import object_masks
from tracker_svc.tracker import Frame, Tracker

TRACKED_FRAMES = 2


async def warm_up(tracker: Tracker, worker: DeviceWorker) -> float:
    """Click on an empty frame and track it through two more; returns the seconds it took."""
    start = time.perf_counter()
    recorder = tracker.recorder()
    with telemetry.tracer().start_as_current_span(telemetry.WARM_UP):
        await worker.run(lambda: _run(tracker, recorder))
        telemetry.emit(recorder.records, None)
    return time.perf_counter() - start


def _run(tracker: Tracker, recorder: telemetry.StageRecorder) -> None:
    frame = empty_frame(tracker.model)
    obj = TrackedObject(0)
    prompt = Prompt([Point(1, 1)])
    state = tracker.prompt(obj, 0, prompt, frame, clear_previous=False, recorder=recorder)
    obj.bank.prompt(0, state)
    tracker.memorize_prompted([obj], 0, frame, recorder)
    for index in range(TRACKED_FRAMES + 1):
        states = tracker.track([obj], index, frame, recorder=recorder)
        tracker.memorize_tracked([obj], index, frame, recorder)
        with recorder.stage(telemetry.POSTPROCESS):
            object_masks([0], [states[0]], MaskOptions(), width=frame.width, height=frame.height)


def empty_frame(model: TrackingModel) -> Frame:
    """A frame whose embedding is all zeros."""
    size, dim = model.embedding_size, model.embed_dim

    def zeros(channels: int, side: int) -> torch.Tensor:
        return torch.zeros(1, channels, side, side, device=model.device, dtype=model.dtype)

    features = ImageFeatures(zeros(dim, size), zeros(dim // 8, 4 * size), zeros(dim // 4, 2 * size))
    return Frame(features, model.image_size, model.image_size)
