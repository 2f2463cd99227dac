"""Whole clips compared with the original: logits within 5e-3 of the largest logit, equal binary masks.

Pixels whose logit is within that distance of zero may differ.  Reference: the SAM 2.1
video predictor (tiny, 256 x 256, fp32) at commit 2b90b9f; the calls are listed in the data's README.
"""

from collections.abc import Iterable

import numpy as np
import pytest
import torch

from maskmesh.masks import RleMask
from maskmesh.telemetry import StageRecorder
from maskmesh.types import Box, Point, Prompt
from tests.golden import FRAMES, IMAGE_SIZE, arrays, frame_features, needs_data, tiny_tracker
from tracker_svc.compute.step import Frame, Step
from tracker_svc.compute.tracker import Tracker
from tracker_svc.memory.frame_state import FrameState
from tracker_svc.memory.tracked_object import TrackedObject
from tracker_svc.sessions.prompts import combine

pytestmark = needs_data

TOLERANCE = 5e-3
CLICK = Prompt([Point(60, 150)])


class Clip:
    """A session over the golden frames in this process."""

    def __init__(self, bias: float) -> None:
        self.tracker = Tracker(tiny_tracker(bias))
        self.golden = arrays(f"clip_256_bias_{bias:g}")
        self.objects: dict[int, TrackedObject] = {}
        self.recorder = StageRecorder()

    def frame(self, index: int) -> Frame:
        return Frame(frame_features(index), IMAGE_SIZE, IMAGE_SIZE)

    def prompt(self, obj_id: int, index: int, prompt: Prompt) -> FrameState:
        obj = self.objects.setdefault(obj_id, TrackedObject(obj_id))
        obj.prompts[index] = combine(obj.prompts.get(index), prompt, clear_previous=False)
        state = self.tracker.prompt(
            obj, index, obj.prompts[index], self.frame(index), clear_previous=False,
            recorder=self.recorder,
        )  # fmt: skip
        obj.bank.prompt(index, state)
        return state

    def propagate(self, indices: Iterable[int], *, reverse: bool = False) -> dict[int, dict[int, FrameState]]:
        objects = list(self.objects.values())
        for index in sorted({i for o in objects for i in o.bank.prompted}):
            self.tracker.memorize_prompted(Step(objects, index, self.frame(index), self.recorder))
        out = {}
        for index in indices:
            frame = self.frame(index)
            step = Step(objects, index, frame, self.recorder, reverse)
            [out[index]] = self.tracker.track([step])
            self.tracker.memorize_tracked([step])
        return out

    def check(self, state: FrameState, name: str) -> None:
        expected = torch.from_numpy(self.golden[f"{name}/low"])
        actual = state.low_res_masks[0]
        bound = TOLERANCE * float(expected.abs().max())
        assert float((actual - expected).abs().max()) <= bound, name
        differs = (actual > 0) != (expected > 0)
        assert bool((expected[differs].abs() <= bound).all()), name
        if f"{name}/ptr" in self.golden:
            pointer = torch.from_numpy(self.golden[f"{name}/ptr"])
            assert state.object_pointer is not None
            error = float((state.object_pointer - pointer).abs().max() / pointer.abs().max())
            assert error <= TOLERANCE, name
        if f"{name}/score" in self.golden:
            score = float(self.golden[f"{name}/score"][0])
            assert state.object_score_logit == pytest.approx(score, abs=TOLERANCE * 10), name


def prompt_four_objects(clip: Clip) -> None:
    """The prompts of the golden run ``forward/``."""
    first = clip.prompt(1, 0, CLICK)
    if "click/obj1/f00/low" in clip.golden:
        clip.check(first, "click/obj1/f00")
    clip.prompt(1, 0, Prompt([Point(150, 150, positive=False)]))
    clip.prompt(2, 0, Prompt(box=Box(80, 10, 140, 180)))
    y, x = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE]
    disc = (y - 120) ** 2 + (x - 190) ** 2 < 40**2
    clip.prompt(3, 0, Prompt(mask=RleMask.encode(disc)))
    points = [Point(30, 40), Point(20, 60, positive=False)]
    clip.prompt(4, 0, Prompt(points, Box(10, 10, 70, 90)))


@pytest.mark.parametrize(("bias", "frames"), [(4, FRAMES), (-2, 5)])
def test_forward_with_an_object_added_later(bias: float, frames: int) -> None:
    clip = Clip(bias)
    prompt_four_objects(clip)
    tracked = clip.propagate(range(frames))
    for index, states in tracked.items():
        for obj_id, state in states.items():
            clip.check(state, f"forward/obj{obj_id}/f{index:02}")
    if bias != 4:
        return
    clip.prompt(5, 12, Prompt([Point(200, 200)]))
    for index, states in clip.propagate(range(12, FRAMES)).items():
        clip.check(states[5], f"late/obj5/f{index:02}")


@pytest.mark.parametrize(("bias", "last"), [(4, 0), (-2, 8)])
def test_reverse(bias: float, last: int) -> None:
    clip = Clip(bias)
    clip.prompt(6, 12, CLICK)
    for index, states in clip.propagate(range(12, last - 1, -1), reverse=True).items():
        clip.check(states[6], f"reverse/obj6/f{index:02}")


def test_object_with_two_prompted_frames() -> None:
    clip = Clip(4)
    clip.prompt(7, 0, CLICK)
    clip.prompt(7, 10, Prompt([Point(120, 100)]))
    for index, states in clip.propagate(range(FRAMES)).items():
        clip.check(states[7], f"twice/obj7/f{index:02}")
