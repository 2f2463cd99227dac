"""Training follows objects as the tracker does: equal prompts on equal frames give equal masks."""

from functools import cache

import torch

from maskmesh import Point, Prompt
from maskmesh.telemetry import StageRecorder
from tools.train_micro.images import click, decode, fed_back
from tools.train_micro.micro import Micro
from tools.train_micro.rollout import Rollout
from tracker_svc.model.tracking_model import ImageFeatures
from tracker_svc.objects import TrackedObject
from tracker_svc.tracker import Frame, Tracker

FRAMES = 22  # more than there are slots of memories, and pointers
CORRECTED = 9


@cache
def features(index: int) -> ImageFeatures:
    random = torch.Generator().manual_seed(index)
    shapes = ((1, 128, 16, 16), (1, 16, 64, 64), (1, 32, 32, 32))
    return ImageFeatures(*(torch.randn(*shape, generator=random) for shape in shapes))


def untrained() -> Micro:
    torch.manual_seed(0)
    model = Micro().eval().requires_grad_(False)
    *_, bias = model.tracker.sam_mask_decoder.pred_obj_score_head.parameters()
    torch.nn.init.constant_(bias, 4.0)
    return model


def test_a_rollout_equals_the_tracker() -> None:
    model = untrained()
    first, second = Point(100, 60), Point(30, 200)

    tracker, recorder, obj = Tracker(model.tracker), StageRecorder(), TrackedObject(1)
    served = []

    def prompt(index: int, point: Point) -> None:
        frame = Frame(features(index), 256, 256)
        state = tracker.prompt(obj, index, Prompt([point]), frame, clear_previous=False, recorder=recorder)
        obj.bank.prompt(index, state)
        tracker.memorize_prompted([obj], index, frame, recorder)

    prompt(0, first)
    for index in range(FRAMES):
        frame = Frame(features(index), 256, 256)
        state = tracker.track([obj], index, frame, recorder=recorder)[1]
        tracker.memorize_tracked([obj], index, frame, recorder)
        if index == CORRECTED:
            prompt(index, second)
            state = obj.bank.conditioning[index]
        served.append(state.low_res_masks)

    rollout, trained = Rollout(model.tracker), []

    def asked(point: Point) -> torch.Tensor:
        return torch.tensor([[[(point.x + 0.5) / 256, (point.y + 0.5) / 256]]])

    conditioned = model.tracker.without_memory(features(0))
    decoded = decode(model, features(0), conditioned, click(asked(first)))
    trained.append(rollout.prompt(features(0), decoded, ambiguous=True).low_res_masks)
    for index in range(1, FRAMES):
        conditioned, decoded = rollout.attend(features(index))
        if index == CORRECTED:
            logits = fed_back(decoded)
            decoded = decode(model, features(index), conditioned, click(asked(second)), logits)
            found = rollout.prompt(features(index), decoded, ambiguous=True)
        else:
            found = rollout.track(features(index), decoded)
        trained.append(found.low_res_masks)

    for index, (ours, theirs) in enumerate(zip(trained, served, strict=True)):
        assert float((ours[0] - theirs).abs().max() / theirs.abs().max()) < 1e-3, index
    assert float((trained[3] - trained[1]).abs().max()) > 0
