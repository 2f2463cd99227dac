"""A session over random embeddings, driven step by step without a server."""

from collections.abc import Iterable
from functools import cache

import torch

from maskmesh import (
    Prompt,
)
from maskmesh.nn.image_features import ImageFeatures
from maskmesh.telemetry import StageRecorder
from tracker_svc.compute.step import Frame, Step
from tracker_svc.compute.tracker import Tracker
from tracker_svc.memory.archive import SessionArchive
from tracker_svc.memory.frame_state import FrameState
from tracker_svc.memory.memory_bank import MemoryBank
from tracker_svc.memory.tracked_object import TrackedObject
from tracker_svc.sessions.prompts import combine

SIDE = 16
TOLERANCE = 1e-4


@cache
def frame(index: int) -> Frame:
    random = torch.Generator().manual_seed(index)

    def maps(channels: int, side: int) -> torch.Tensor:
        return torch.randn(1, channels, side, side, generator=random)

    return Frame(ImageFeatures(maps(64, SIDE), maps(8, 4 * SIDE), maps(16, 2 * SIDE)), 320, 200)


class Video:
    """A session over random embeddings."""

    def __init__(self, tracker: Tracker, archive: SessionArchive | None = None) -> None:
        self.tracker = tracker
        self.archive = archive
        self.objects: dict[int, TrackedObject] = {}
        self.recorder = StageRecorder()

    def prompt(self, obj_id: int, index: int, prompt: Prompt, *, clear: bool = False) -> FrameState:
        obj = self.objects.setdefault(obj_id, TrackedObject(obj_id, MemoryBank(obj_id, self.archive)))
        obj.prompts[index] = combine(obj.prompts.get(index), prompt, clear_previous=clear)
        state = self.tracker.prompt(
            obj, index, obj.prompts[index], frame(index), clear_previous=clear, recorder=self.recorder
        )
        obj.bank.prompt(index, state)
        return state

    def track(self, first: int, last: int) -> dict[int, dict[int, FrameState]]:
        return self.track_frames(range(first, last))

    def track_frames(
        self, indices: Iterable[int], *, reverse: bool = False
    ) -> dict[int, dict[int, FrameState]]:
        objects = list(self.objects.values())
        for index in sorted({i for o in objects for i in o.bank.prompted}):
            self.tracker.memorize_prompted(Step(objects, index, frame(index), self.recorder))
        states = {}
        for index in indices:
            step = Step(objects, index, frame(index), self.recorder, reverse)
            [states[index]] = self.tracker.track([step])
            self.tracker.memorize_tracked([step])
        return states

    def stages(self) -> list[str]:
        names = [r.name for r in self.recorder.records]
        self.recorder.records.clear()
        return names
