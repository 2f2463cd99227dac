"""The training rollout matches the tracker: equal prompts on equal frames give equal masks."""

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from maskmesh import Box, Point, Prompt, RleMask
from maskmesh.nn.image_features import ImageFeatures
from maskmesh.telemetry import StageRecorder
from tools.train_micro.images import Points, box, click, decode, fed_back
from tools.train_micro.micro import Micro
from tools.train_micro.rollout import Rollout
from tracker_svc.compute.step import Frame, Step
from tracker_svc.compute.tracker import Tracker
from tracker_svc.memory.tracked_object import TrackedObject
from tracker_svc.sessions.prompts import combine

SIZE = 256
FRAMES = 22  # more than the numbers of memory slots and object pointers
CORRECTED = 9

FIRST, SECOND, LATER = Point(100, 60), Point(120, 90, False), Point(30, 200)
BOX = Box(40, 30, 180, 140)


@cache
def features(index: int) -> ImageFeatures:
    random = torch.Generator().manual_seed(index)
    shapes = ((1, 128, 16, 16), (1, 16, 64, 64), (1, 32, 32, 32))
    return ImageFeatures(*(torch.randn(*shape, generator=random) for shape in shapes))


def untrained(score: float) -> Micro:
    """An untrained model whose object scores are near ``score``: every object is in sight, or none is."""
    torch.manual_seed(0)
    model = Micro().eval().requires_grad_(False)
    *_, bias = model.tracker.sam_mask_decoder.pred_obj_score_head.parameters()
    torch.nn.init.constant_(bias, score)
    return model


def square() -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    mask = np.zeros((SIZE, SIZE), dtype=np.bool_)
    mask[30:140, 40:180] = True
    return mask


class Served:
    """A session with the tracker, over frames of the input size of the model."""

    def __init__(self, model: Micro) -> None:
        self.tracker, self.recorder, self.obj = Tracker(model.tracker), StageRecorder(), TrackedObject(1)

    def prompt(self, index: int, prompt: Prompt) -> Tensor:
        frame = Frame(features(index), SIZE, SIZE)
        said = combine(self.obj.prompts.get(index), prompt, clear_previous=False)
        self.obj.prompts[index] = said
        state = self.tracker.prompt(
            self.obj, index, said, frame, clear_previous=False, recorder=self.recorder
        )
        self.obj.bank.prompt(index, state)
        return state.low_res_masks

    def track(self, index: int) -> Tensor:
        frame = Frame(features(index), SIZE, SIZE)
        for prompted in list(self.obj.bank.prompted):
            at = Frame(features(prompted), SIZE, SIZE)
            self.tracker.memorize_prompted(Step([self.obj], prompted, at, self.recorder))
        step = Step([self.obj], index, frame, self.recorder)
        [states] = self.tracker.track([step])
        self.tracker.memorize_tracked([step])
        return states[1].low_res_masks


def asked(prompt: Prompt) -> Points:
    """The prompt in the form of the training code."""
    if prompt.box is not None:
        b = prompt.box
        return box(torch.tensor([[[b.x0, b.y0], [b.x1, b.y1]]]))
    return click(torch.tensor([[[p.x, p.y] for p in prompt.points]]))


@pytest.mark.parametrize("score", [4.0, -4.0], ids=["in sight", "out of sight"])
@pytest.mark.parametrize("first", ["click", "corrected click", "box", "mask"])
def test_rollout_matches_the_tracker(first: str, score: float) -> None:
    model = untrained(score)
    served, rollout = Served(model), Rollout(model.tracker)
    ours: list[Tensor] = []
    theirs: list[Tensor] = []

    frame = features(0)
    conditioned = model.tracker.without_memory(frame)
    if first == "mask":
        theirs.append(served.prompt(0, Prompt(mask=RleMask.encode(square()))))
        ours.append(rollout.adopt(frame, torch.from_numpy(square())[None, None].float()).low_res_masks)
    else:
        prompt = Prompt(box=BOX) if first == "box" else Prompt([FIRST])
        theirs.append(served.prompt(0, prompt))
        points = asked(prompt)
        decoded = decode(model, frame, conditioned, points)
        if first == "corrected click":
            theirs[0] = served.prompt(0, Prompt([SECOND]))
            logits = fed_back(model, decoded, points)
            points = points.and_also(torch.tensor([[[SECOND.x, SECOND.y]]]), torch.zeros(1, 1).long())
            decoded = decode(model, frame, conditioned, points, logits)
        ours.append(rollout.prompt(frame, decoded, ambiguous=points.ambiguous).low_res_masks)

    for index in range(1, FRAMES):
        frame = features(index)
        theirs.append(served.track(index))
        conditioned, decoded = rollout.attend(frame)
        if index == CORRECTED:
            theirs[-1] = served.prompt(index, Prompt([LATER]))
            # A tracked mask is one of three multimask outputs.
            nothing = Points(torch.zeros(1, 0, 2), torch.zeros(1, 0).long())
            points = asked(Prompt([LATER]))
            decoded = decode(model, frame, conditioned, points, fed_back(model, decoded, nothing))
            found = rollout.prompt(frame, decoded, ambiguous=points.ambiguous)
        else:
            found = rollout.track(frame, decoded)
        ours.append(found.low_res_masks)

    for index, (here, there) in enumerate(zip(ours, theirs, strict=True)):
        assert float((here[0] - there).abs().max() / there.abs().max()) < 1e-3, index
    if score > 0:
        assert not torch.equal(ours[3], ours[1])
