"""The steps of the model on random embeddings: rules that golden outputs do not reach."""

from pathlib import Path

import numpy as np
import pytest
import torch

from maskmesh import (
    Box,
    FrameOutOfMemory,
    LowResLogits,
    MaskFormat,
    MaskOptions,
    Point,
    Prompt,
    RleMask,
    telemetry,
)
from maskmesh.telemetry import StageRecorder, stage_seconds
from tests.golden import relative_error
from tests.tracker_svc.video import TOLERANCE, Video, frame
from tracker_svc.compute.output import object_masks
from tracker_svc.compute.tracker import Step, Tracker
from tracker_svc.memory.archive import SessionArchive
from tracker_svc.memory.frame_state import FrameState
from tracker_svc.memory.memory_bank import MemoryBank
from tracker_svc.memory.memory_horizon import check_promptable, require_history_before
from tracker_svc.model import weights
from tracker_svc.model.config import PRESETS
from tracker_svc.model.mask_decoder import stability_score, stable_mask
from tracker_svc.model.tracking_model import NO_OBJECT_LOGIT
from tracker_svc.sessions.objects import TrackedObject


def test_objects_in_a_batch_equal_objects_alone(tracker: Tracker) -> None:
    together = Video(tracker)
    together.prompt(1, 0, Prompt([Point(50, 60)]))
    together.prompt(2, 0, Prompt(box=Box(100, 20, 180, 120)))
    together.prompt(3, 2, Prompt([Point(200, 100)]))  # another number of memories: another batch
    all_states = together.track(0, 8)
    sizes = {r.attributes["maskmesh.batch.size"] for r in together.recorder.records if "batch" in str(r)}
    assert {1, 2} <= sizes
    for obj_id, index, prompt in (
        (1, 0, Prompt([Point(50, 60)])),
        (2, 0, Prompt(box=Box(100, 20, 180, 120))),
        (3, 2, Prompt([Point(200, 100)])),
    ):
        alone = Video(tracker)
        alone.prompt(obj_id, index, prompt)
        for i, states in alone.track(0, 8).items():
            here, there = states[obj_id].low_res_masks, all_states[i][obj_id].low_res_masks
            assert float((here - there).abs().max() / there.abs().max()) < 5 * TOLERANCE


def test_sessions_in_one_batch_equal_sessions_alone(tracker: Tracker) -> None:
    """Each on a frame of its own, with objects of its own, in either direction."""

    def begin(first: int) -> Video:
        video = Video(tracker)
        video.prompt(1, first, Prompt([Point(50, 60)]))
        video.prompt(2, first, Prompt(box=Box(100, 20, 180, 120)))
        return video

    def step(video: Video, index: int, *, reverse: bool = False) -> Step:
        return Step(list(video.objects.values()), index, frame(index), StageRecorder(), reverse)

    alone = [begin(first).track_frames(range(first, first + 6))[first + 5] for first in (0, 20)]
    alone.append(begin(40).track_frames(range(40, 34, -1), reverse=True)[35])
    together = [begin(first) for first in (0, 20, 40)]
    for offset in range(6):
        steps = [step(video, first + offset) for video, first in zip(together[:2], (0, 20), strict=True)]
        steps.append(step(together[2], 40 - offset, reverse=True))
        if not offset:
            for one in steps:
                tracker.memorize_prompted(one.objects, one.frame_index, one.frame, one.recorder)
        found = tracker.track(steps)
        tracker.memorize_tracked(steps)
        sizes = {r.attributes["maskmesh.batch.size"] for s in steps for r in s.recorder.records}
        assert sizes == ({6} if offset else {2})
    for expected, states in zip(alone, found, strict=True):
        for obj_id, state in expected.items():
            assert relative_error(states[obj_id].low_res_masks, state.low_res_masks) < 1e-4


def test_steps_of_unlike_memories_share_no_batch(tracker: Tracker) -> None:
    """But they can be computed in one call, and memories are made of those that have none."""

    def begin(frames: int) -> Video:
        video = Video(tracker)
        video.prompt(1, 0, Prompt([Point(50, 60)]))
        video.track(0, frames)
        return video

    videos = [begin(4), begin(2)]
    videos[0].prompt(2, 0, Prompt(box=Box(100, 20, 180, 120)))  # one memory, beside one of four
    expected = []
    for video, index in zip([begin(4), begin(2)], (4, 2), strict=True):
        if index == 4:
            video.prompt(2, 0, Prompt(box=Box(100, 20, 180, 120)))
        expected.append(video.track(index, index + 1)[index])
    steps = []
    for video, index in zip(videos, (4, 2), strict=True):
        objects = list(video.objects.values())
        tracker.memorize_prompted(objects, 0, frame(0), StageRecorder())
        steps.append(Step(objects, index, frame(index), StageRecorder()))
    assert steps[0].signatures != steps[1].signatures
    found = tracker.track(steps)
    tracker.memorize_tracked(steps[:1])
    tracker.memorize_tracked(steps)
    for states, others in zip(found, expected, strict=True):
        for obj_id, state in others.items():
            assert relative_error(states[obj_id].low_res_masks, state.low_res_masks) < 1e-4
    memorized = [[r.name for r in s.recorder.records].count(telemetry.MEMORY_ENCODER) for s in steps]
    assert memorized == [1, 1]


def test_a_click_in_the_middle_of_tracking_changes_nothing(tracker: Tracker) -> None:
    """Neither the masks of what is tracked, nor those of the click, nor the times of the stages."""
    click, others = Prompt([Point(90, 90)]), Video(tracker)
    expected = others.prompt(7, 1, click)

    def run_urgent_work() -> bool:
        clicks.append(Video(tracker).prompt(7, 1, click))
        return True

    clicks: list[FrameState] = []
    undisturbed, disturbed = Video(tracker), Video(Tracker(tracker.model, run_urgent_work))
    for video in (undisturbed, disturbed):
        video.prompt(1, 0, Prompt([Point(50, 60)]))
        video.prompt(2, 0, Prompt([Point(200, 100)]))
    alone, together = undisturbed.track(0, 4), disturbed.track(0, 4)
    for index, states in alone.items():
        for obj_id, state in states.items():
            assert torch.equal(state.low_res_masks, together[index][obj_id].low_res_masks)
    assert len(clicks) > 8
    assert all(torch.equal(found.low_res_masks, expected.low_res_masks) for found in clicks)

    records = disturbed.recorder.records
    attentions = [r for r in records if r.name == telemetry.MEMORY_ATTENTION]
    waits = [wait for record in attentions for wait in record.children]
    assert {(wait.name, wait.attributes[telemetry.WAITS_FOR]) for wait in waits} == {("queue", "click")}
    waited = sum(wait.end_ns - wait.start_ns for wait in waits) / 1e9
    in_all = sum(r.end_ns - r.start_ns for r in attentions) / 1e9
    assert stage_seconds(attentions)[telemetry.MEMORY_ATTENTION] == pytest.approx(in_all - waited)
    assert 0 < waited < in_all


def test_an_object_is_tracked_before_its_first_prompt(tracker: Tracker) -> None:
    video = Video(tracker)
    video.prompt(1, 0, Prompt([Point(50, 60)]))
    video.prompt(2, 4, Prompt([Point(150, 60)]))
    states = video.track(0, 6)
    assert list(states[1]) == [1, 2]
    assert states[4][2] is video.objects[2].bank.conditioning[4]


def test_a_corrected_mask_stays_and_what_follows_changes(tracker: Tracker) -> None:
    video = Video(tracker)
    video.prompt(1, 0, Prompt([Point(50, 60)]))
    before = video.track(0, 12)
    corrected = video.prompt(1, 5, Prompt([Point(250, 150), Point(20, 20, False)]))
    after = video.track(0, 12)
    assert torch.equal(after[5][1].low_res_masks, corrected.low_res_masks)
    assert not torch.equal(after[6][1].low_res_masks, before[6][1].low_res_masks)
    # And it stays, however often the video is propagated.
    again = video.track(0, 12)
    assert torch.equal(again[5][1].low_res_masks, corrected.low_res_masks)
    for index in range(12):
        assert torch.equal(again[index][1].low_res_masks, after[index][1].low_res_masks)


def test_memory_conditions_a_prompt_only_where_the_object_was_tracked(tracker: Tracker) -> None:
    video = Video(tracker)
    video.prompt(1, 0, Prompt([Point(50, 60)]))
    assert video.stages() == ["prompt_encoder", "mask_decoder"]
    video.track(0, 3)
    video.stages()
    video.prompt(1, 2, Prompt([Point(50, 60)]))
    assert video.stages() == ["memory_attention", "prompt_encoder", "mask_decoder"]
    video.prompt(1, 9, Prompt([Point(50, 60)]))
    assert video.stages() == ["prompt_encoder", "mask_decoder"]


def test_a_click_memorizes_nothing(tracker: Tracker) -> None:
    video = Video(tracker)
    video.prompt(1, 0, Prompt([Point(50, 60)]))
    assert video.objects[1].bank.prompted[0].memory_features is None
    video.stages()
    video.track(0, 1)
    assert video.stages() == ["memory_encoder"]
    memory = video.objects[1].bank.conditioning[0].memory_features
    assert memory is not None
    assert memory.dtype is torch.bfloat16


def test_a_correcting_click_sees_the_mask_it_corrects(tracker: Tracker) -> None:
    points = [Point(50, 60), Point(150, 100, False)]
    one_by_one, at_once, cleared = Video(tracker), Video(tracker), Video(tracker)
    one_by_one.prompt(1, 0, Prompt(points[:1]))
    refined = one_by_one.prompt(1, 0, Prompt(points[1:]))
    fresh = at_once.prompt(1, 0, Prompt(points))
    assert not torch.equal(refined.low_res_masks, fresh.low_res_masks)
    cleared.prompt(1, 0, Prompt([Point(300, 10)]))
    start_over = cleared.prompt(1, 0, Prompt(points), clear=True)
    assert torch.equal(start_over.low_res_masks, fresh.low_res_masks)


def test_one_click_takes_the_best_of_three(tracker: Tracker) -> None:
    click = [Prompt([Point(50, 60)])]
    video = Video(tracker)
    best = video.prompt(1, 0, click[0])
    three = tracker.segment_image(frame(0), click, multimask_output=True, recorder=StageRecorder())[0]
    assert len(three) == 3
    assert torch.equal(three[0].low_res_masks, best.low_res_masks)
    assert best.predicted_iou == max(s.predicted_iou for s in three)


def test_an_unstable_single_mask_falls_back_to_the_best_alternative() -> None:
    stable = torch.full((1, 8, 8), 3.0)
    unstable = torch.linspace(-0.06, 0.06, 64).view(1, 8, 8)
    assert float(stability_score(stable[None])) == 1
    assert float(stability_score(unstable[None])) < 0.5
    assert float(stability_score(torch.full((1, 1, 8, 8), -9.0))) == 1
    others = torch.stack([torch.full((8, 8), float(v)) for v in (5, 6, 7)])
    masks = torch.stack([torch.cat((stable, others)), torch.cat((unstable, others))])
    ious = torch.tensor([[0.1, 0.3, 0.9, 0.5], [0.1, 0.3, 0.9, 0.5]])
    chosen, scores = stable_mask(masks, ious)
    assert torch.equal(chosen[0, 0], stable[0])
    assert torch.equal(chosen[1, 0], others[1])
    assert scores.flatten().tolist() == pytest.approx([0.1, 0.9])


def test_objects_out_of_sight() -> None:
    model = weights.build(PRESETS["test"], None)
    *_, bias = model.sam_mask_decoder.pred_obj_score_head.parameters()
    torch.nn.init.constant_(bias, -8.0)
    video = Video(Tracker(model))
    state = video.prompt(1, 0, Prompt([Point(50, 60)]))
    assert state.object_score_logit < 0
    assert float(state.low_res_masks.max()) == NO_OBJECT_LOGIT
    assert state.object_pointer is not None
    assert torch.equal(state.object_pointer, model.no_obj_ptr[0])
    video.track(0, 1)
    with_embedding = video.objects[1].bank.conditioning[0].memory_features
    torch.nn.init.zeros_(model.no_obj_embed_spatial)
    with torch.inference_mode():
        without = model.encode_memory(
            frame(0).features, state.low_res_masks[None], torch.tensor([-1.0]), torch.tensor([True])
        )
    assert with_embedding is not None
    assert not torch.equal(with_embedding, without[0])


def test_a_mask_prompt_is_the_output(tracker: Tracker) -> None:
    mask = np.zeros((200, 320), dtype=bool)
    mask[50:120, 100:220] = True
    video = Video(tracker)
    state = video.prompt(1, 0, Prompt(mask=RleMask.encode(mask)))
    assert float(state.low_res_masks.max()) == pytest.approx(10)
    assert float(state.low_res_masks.min()) == pytest.approx(-10)
    assert state.object_score_logit == 10
    shown = object_masks([1], [state], MaskOptions(), width=320, height=200)[0].mask
    assert isinstance(shown, RleMask)
    found = shown.decode()
    assert (found & mask).sum() / (found | mask).sum() > 0.95
    empty = video.prompt(2, 0, Prompt(mask=RleMask.encode(np.zeros((200, 320), dtype=bool))))
    assert empty.object_score_logit == -10
    assert torch.equal(empty.object_pointer, tracker.model.no_obj_ptr[0])  # type: ignore[arg-type]


def test_logits_come_as_they_are(tracker: Tracker) -> None:
    video = Video(tracker)
    state = video.prompt(1, 0, Prompt([Point(50, 60)]))
    options = MaskOptions(MaskFormat.LOW_RES_LOGITS)
    shown = object_masks([1], [state], options, width=320, height=200)[0].mask
    assert isinstance(shown, LowResLogits)
    assert shown.values.shape == (64, 64)
    np.testing.assert_array_equal(shown.values, state.low_res_masks[0].numpy())


def archive_in(folder: Path, *, max_bytes: int = 2**30) -> SessionArchive:
    path = folder / "archive.sqlite"
    return SessionArchive("a session", path, max_bytes=max_bytes, device=torch.device("cpu"))


def test_what_fell_out_of_the_archive_is_refused(tracker: Tracker, tmp_path: Path) -> None:
    video = Video(tracker, archive_in(tmp_path, max_bytes=2**19))
    video.prompt(1, 0, Prompt([Point(50, 60)]))
    video.track(0, 60)
    oldest = video.objects[1].bank.tracked.oldest()
    assert oldest is not None
    assert 1 < oldest < 44
    check_promptable(video.objects[1], oldest + 15)
    with pytest.raises(FrameOutOfMemory) as caught:
        check_promptable(video.objects[1], oldest + 14)
    assert caught.value.metadata["oldest_frame_index"] == str(oldest)
    with pytest.raises(FrameOutOfMemory):
        require_history_before([video.objects[1]], oldest + 14)
    # A new object has nothing to remember there.
    video.prompt(2, 3, Prompt([Point(150, 60)]))


def unbounded(obj_id: int) -> TrackedObject:
    return TrackedObject(obj_id, MemoryBank(obj_id, None, max_recent=10_000))


@pytest.mark.parametrize("reverse", [False, True])
def test_old_frames_are_corrected_as_if_nothing_had_left_memory(
    tracker: Tracker, tmp_path: Path, *, reverse: bool
) -> None:
    archive = SessionArchive(
        "a session", tmp_path / "archive.sqlite", max_bytes=2**30, device=torch.device("cpu")
    )
    bounded, whole = Video(tracker, archive), Video(tracker)
    whole.objects = {1: unbounded(1), 2: unbounded(2)}
    masks: list[list[torch.Tensor]] = []
    for video in (bounded, whole):
        video.prompt(1, 0, Prompt([Point(50, 60)]))
        video.prompt(2, 3, Prompt(box=Box(100, 20, 180, 120)))
        video.track(0, 70)
        found = [video.prompt(1, 20, Prompt([Point(250, 150), Point(20, 20, positive=False)]))]
        # Another correction, close enough to need what the first one cleared and what it left.
        found.append(video.prompt(2, 26, Prompt([Point(150, 60)])))
        order = range(40, 4, -1) if reverse else range(15, 45)
        for states in video.track_frames(order, reverse=reverse).values():
            found += states.values()
        # And on from frames that were tracked before all this.
        for states in video.track_frames(range(55, 60)).values():
            found += states.values()
        masks.append([state.low_res_masks for state in found])
    assert bounded.objects[1].bank.tracked.recent(30) is None
    assert len(masks[0]) == len(masks[1])
    for ours, theirs in zip(*masks, strict=True):
        assert torch.equal(ours, theirs)
    archive.close()


def test_a_removed_object_leaves_the_others_as_they_are(tracker: Tracker) -> None:
    clicks = {1: Point(50, 60), 2: Point(150, 100), 3: Point(250, 40)}
    removing, never = Video(tracker), Video(tracker)
    for obj_id, point in clicks.items():
        removing.prompt(obj_id, 0, Prompt([point]))
    removing.track(0, 6)
    del removing.objects[2]
    after = removing.track(6, 12)
    for obj_id in (1, 3):
        never.prompt(obj_id, 0, Prompt([clicks[obj_id]]))
    expected = never.track(0, 12)
    for index in range(6, 12):
        assert list(after[index]) == [1, 3]
        for obj_id in (1, 3):
            here = after[index][obj_id].low_res_masks
            there = expected[index][obj_id].low_res_masks
            assert float((here - there).abs().max() / there.abs().max()) < 5 * TOLERANCE


def test_memory_is_bounded_and_says_so() -> None:
    tracker = Tracker(weights.build(PRESETS["test"], None))
    video = Video(tracker)
    video.prompt(1, 0, Prompt([Point(50, 60)]))
    video.track(0, 40)
    bank = video.objects[1].bank
    assert len(bank.tracked.held(0, 40)) == 16
    check_promptable(video.objects[1], 39)
    check_promptable(video.objects[1], 100)
    for forgotten in (10, 30):  # the frame itself, and what counts on it
        with pytest.raises(FrameOutOfMemory) as caught:
            check_promptable(video.objects[1], forgotten)
        assert caught.value.metadata["frame_index"] == str(forgotten)
        assert caught.value.metadata["oldest_frame_index"] == "24"
    with pytest.raises(FrameOutOfMemory):
        require_history_before([video.objects[1]], 24)
    require_history_before([video.objects[1]], 40)
    require_history_before([video.objects[1]], 0)
