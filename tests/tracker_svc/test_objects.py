import pytest

from maskmesh import Box, InvalidPrompt, LowResLogits, Point, Prompt, RleMask
from tracker_svc.compute.prompt_tensors import labelled_points
from tracker_svc.sessions.prompts import combine

CLICK, MORE = Prompt([Point(1, 2)]), Prompt([Point(3, 4, False)])
BOX = Prompt(box=Box(0, 0, 5, 5))
MASK = Prompt(mask=RleMask(2, 2, b"4"))


def test_points_accumulate() -> None:
    both = combine(CLICK, MORE, clear_previous=False)
    assert list(both.points) == [Point(1, 2), Point(3, 4, False)]
    assert combine(CLICK, MORE, clear_previous=True) == MORE


def test_box_must_not_follow_points() -> None:
    boxed = combine(BOX, CLICK, clear_previous=False)
    assert labelled_points(boxed) == [(0, 0, 2), (5, 5, 3), (1, 2, 1)]
    assert combine(None, Prompt(CLICK.points, BOX.box), clear_previous=False).box == BOX.box
    with pytest.raises(InvalidPrompt) as caught:
        combine(CLICK, BOX, clear_previous=False)
    assert caught.value.field == "prompt.box"
    with pytest.raises(InvalidPrompt):
        combine(BOX, BOX, clear_previous=False)
    assert combine(CLICK, BOX, clear_previous=True) == BOX


def test_masks_and_points_replace_one_another() -> None:
    assert combine(CLICK, MASK, clear_previous=False) == MASK
    assert combine(MASK, CLICK, clear_previous=False) == CLICK
    assert combine(MASK, BOX, clear_previous=False) == BOX
    with pytest.raises(InvalidPrompt):
        combine(None, Prompt(CLICK.points, mask=MASK.mask), clear_previous=False)


def test_logits_are_refused_as_a_session_prompt() -> None:
    import numpy as np

    with pytest.raises(InvalidPrompt):
        combine(None, Prompt(mask=LowResLogits(np.zeros((2, 2), np.float32))), clear_previous=False)
