"""Warm-up of the tracker: runs each stage before the service is ready, because first runs are slow."""

import time
from functools import partial

import torch

from maskmesh import telemetry
from maskmesh.concepts import Concept, ConceptOptions, Exemplar, SessionConcept
from maskmesh.masks import MaskOptions
from maskmesh.nn.image_features import ImageFeatures, TrunkFeatures
from maskmesh.scheduling.cpu_sharing import CorePolicy
from maskmesh.scheduling.device_worker import DeviceWorker
from maskmesh.types import Box, Point, Prompt
from tracker_svc.compute.concepts import ConceptFinder
from tracker_svc.compute.mask_output import object_masks
from tracker_svc.compute.step import Frame, Step
from tracker_svc.compute.tracker import Tracker
from tracker_svc.following.followed_concept import FollowedConcept
from tracker_svc.following.following_step import Following
from tracker_svc.memory.tracked_object import TrackedObject
from tracker_svc.model.tracking_model import TrackingModel

TRACKED_FRAMES = 2


async def warm_up(
    tracker: Tracker,
    concepts: ConceptFinder | None,
    worker: DeviceWorker,
    cores: CorePolicy,
    *,
    max_batch: int,
) -> float:
    """Prompt an object on an empty frame and track it over two more, in one session and in a batch of
    sessions, and detect and follow a concept.

    Returns the duration in seconds.
    """
    start = time.perf_counter()
    recorder = tracker.recorder()
    with telemetry.tracer().start_as_current_span(telemetry.WARM_UP):
        # A single session is tracked again at the end, to record its time with a warm model.
        for count in (1, max_batch, 1) if max_batch > 1 else (1,):
            await worker.run(partial(cores.warm_up, partial(_run, tracker, recorder, count)))
        if concepts is not None:
            detect = partial(_detect, concepts, empty_frame(tracker.model), recorder)
            await worker.run(partial(cores.warm_up, detect))
            await worker.run(partial(cores.warm_up, partial(_follow, tracker, recorder)))
        telemetry.emit(recorder.records, None)
    return time.perf_counter() - start


def _run(tracker: Tracker, recorder: telemetry.StageRecorder, count: int) -> None:
    """Prompt and track ``count`` sessions of one object each."""
    frame = empty_frame(tracker.model)
    objects = [TrackedObject(0) for _ in range(count)]
    for obj in objects:
        state = tracker.prompt(obj, 0, Prompt([Point(1, 1)]), frame, clear_previous=False, recorder=recorder)
        obj.bank.prompt(0, state)
        tracker.memorize_prompted(Step([obj], 0, frame, recorder))
    for index in range(TRACKED_FRAMES + 1):
        steps = [Step([obj], index, frame, recorder) for obj in objects[:1]]
        steps += [Step([obj], index, frame, tracker.recorder()) for obj in objects[1:]]
        states = tracker.track(steps)
        tracker.memorize_tracked(steps)
        with recorder.stage(telemetry.POSTPROCESS):
            object_masks([0], [states[0][0]], MaskOptions(), width=frame.width, height=frame.height)


def _detect(concepts: ConceptFinder, frame: Frame, recorder: telemetry.StageRecorder) -> None:
    """Detect one concept by words and by a box, with one mask."""
    concept = Concept("object", [Exemplar(Box(0, 0, frame.width / 2, frame.height / 2))])
    list(concepts.detect(frame, [concept], threshold=0, max_instances=1, recorder=recorder))


def _follow(tracker: Tracker, recorder: telemetry.StageRecorder) -> None:
    """Find the objects of a concept on a frame, at most one."""
    assert tracker.follower is not None, "a model that detects concepts follows them"
    options = ConceptOptions(score_threshold=0.0)
    concept = FollowedConcept.of(SessionConcept(0, Concept("object"), 0, options))
    following = Following(concepts=[concept], room=1, make=TrackedObject)
    tracker.follower.find(following, 0, empty_frame(tracker.model), recorder)


def empty_frame(model: TrackingModel) -> Frame:
    """A frame whose embedding is all zeros."""
    size, dim = model.embedding_size, model.embed_dim
    if model.detector is not None:
        trunk_map = torch.zeros(1, model.detector.config.trunk_dim, size, size)
        embedding = TrunkFeatures(trunk_map.to(model.device, model.dtype))
        return Frame(embedding, model.image_size, model.image_size)

    def zeros(channels: int, side: int) -> torch.Tensor:
        return torch.zeros(1, channels, side, side, device=model.device, dtype=model.dtype)

    features = ImageFeatures(zeros(dim, size), zeros(dim // 8, 4 * size), zeros(dim // 4, 2 * size))
    return Frame(features, model.image_size, model.image_size)
