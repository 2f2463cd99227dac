"""The steps of the model on random embeddings: rules that the golden outputs do not cover."""

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
from tracker_svc.compute.image_masks import image_masks
from tracker_svc.compute.mask_output import object_masks
from tracker_svc.compute.step import Step
from tracker_svc.compute.tracker import Tracker
from tracker_svc.memory.archive import SessionArchive
from tracker_svc.memory.frame_state import FrameState
from tracker_svc.memory.memory_bank import MemoryBank
from tracker_svc.memory.memory_horizon import require_history_before, require_history_for_prompt
from tracker_svc.memory.tracked_object import TrackedObject
from tracker_svc.model import weights
from tracker_svc.model.config import PRESETS
from tracker_svc.model.mask_decoder import stability_score, stable_mask
from tracker_svc.model.tracking_model import NO_OBJECT_LOGIT


def test_batched_objects_match_single_objects(tracker: Tracker) -> None:
    together = Video(tracker)
    together.prompt(1, 0, Prompt([Point(50, 60)]))
    together.prompt(2, 0, Prompt(box=Box(100, 20, 180, 120)))
    together.prompt(3, 2, Prompt([Point(200, 100)]))  # different number of memories: separate batch
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


def test_batched_sessions_match_single_sessions(tracker: Tracker) -> None:
    """Each session has its own frame, objects and direction."""

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
                tracker.memorize_prompted(Step(one.objects, one.frame_index, one.frame, one.recorder))
        found = tracker.track(steps)
        tracker.memorize_tracked(steps)
        stages = [r for s in steps for r in s.recorder.records if r.name in telemetry.STAGES]
        sizes = {r.attributes[telemetry.BATCH_SIZE] for r in stages}
        assert sizes == ({6} if offset else {2})
    for expected, states in zip(alone, found, strict=True):
        for obj_id, state in expected.items():
            assert relative_error(states[obj_id].low_res_masks, state.low_res_masks) < 1e-4


def test_steps_with_different_memories_share_no_batch(tracker: Tracker) -> None:
    """One call can still compute both steps, and it memorizes only the frames without a memory."""

    def begin(frames: int) -> Video:
        video = Video(tracker)
        video.prompt(1, 0, Prompt([Point(50, 60)]))
        video.track(0, frames)
        return video

    videos = [begin(4), begin(2)]
    videos[0].prompt(2, 0, Prompt(box=Box(100, 20, 180, 120)))  # one memory; object 1 has four
    expected = []
    for video, index in zip([begin(4), begin(2)], (4, 2), strict=True):
        if index == 4:
            video.prompt(2, 0, Prompt(box=Box(100, 20, 180, 120)))
        expected.append(video.track(index, index + 1)[index])
    steps = []
    for video, index in zip(videos, (4, 2), strict=True):
        objects = list(video.objects.values())
        tracker.memorize_prompted(Step(objects, 0, frame(0), StageRecorder()))
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


def test_preempting_click_changes_no_result(tracker: Tracker) -> None:
    """The masks of the tracked objects, the mask of the click and the stage times do not change."""
    click, others = Prompt([Point(90, 90)]), Video(tracker)
    expected = others.prompt(7, 1, click)

    def run_urgent_work() -> bool:
        clicks.append(Video(tracker).prompt(7, 1, click))
        return True

    clicks: list[FrameState] = []
    undisturbed, disturbed = Video(tracker), Video(Tracker(tracker.model, run_urgent_work=run_urgent_work))
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


def test_correction_is_kept_and_changes_later_frames(tracker: Tracker) -> None:
    video = Video(tracker)
    video.prompt(1, 0, Prompt([Point(50, 60)]))
    before = video.track(0, 12)
    corrected = video.prompt(1, 5, Prompt([Point(250, 150), Point(20, 20, False)]))
    after = video.track(0, 12)
    assert torch.equal(after[5][1].low_res_masks, corrected.low_res_masks)
    assert not torch.equal(after[6][1].low_res_masks, before[6][1].low_res_masks)
    # The corrected mask is stable over further propagations.
    again = video.track(0, 12)
    assert torch.equal(again[5][1].low_res_masks, corrected.low_res_masks)
    for index in range(12):
        assert torch.equal(again[index][1].low_res_masks, after[index][1].low_res_masks)


def test_prompts_use_memories_only_on_tracked_frames(tracker: Tracker) -> None:
    video = Video(tracker)
    video.prompt(1, 0, Prompt([Point(50, 60)]))
    assert video.stages() == ["prompt_encoder", "mask_decoder"]
    video.track(0, 3)
    video.stages()
    video.prompt(1, 2, Prompt([Point(50, 60)]))
    assert video.stages() == ["memory_attention", "prompt_encoder", "mask_decoder"]
    video.prompt(1, 9, Prompt([Point(50, 60)]))
    assert video.stages() == ["prompt_encoder", "mask_decoder"]


def test_click_does_not_memorize(tracker: Tracker) -> None:
    video = Video(tracker)
    video.prompt(1, 0, Prompt([Point(50, 60)]))
    assert video.objects[1].bank.prompted[0].memory_features is None
    video.stages()
    video.track(0, 1)
    assert [name for name in video.stages() if name in telemetry.STAGES] == ["memory_encoder"]
    memory = video.objects[1].bank.conditioning[0].memory_features
    assert memory is not None
    assert memory.dtype is torch.bfloat16


def test_correcting_click_uses_the_previous_mask(tracker: Tracker) -> None:
    points = [Point(50, 60), Point(150, 100, False)]
    one_by_one, at_once, cleared = Video(tracker), Video(tracker), Video(tracker)
    one_by_one.prompt(1, 0, Prompt(points[:1]))
    refined = one_by_one.prompt(1, 0, Prompt(points[1:]))
    fresh = at_once.prompt(1, 0, Prompt(points))
    assert not torch.equal(refined.low_res_masks, fresh.low_res_masks)
    cleared.prompt(1, 0, Prompt([Point(300, 10)]))
    start_over = cleared.prompt(1, 0, Prompt(points), clear=True)
    assert torch.equal(start_over.low_res_masks, fresh.low_res_masks)


def test_single_click_returns_the_best_of_three_masks(tracker: Tracker) -> None:
    click = [Prompt([Point(50, 60)])]
    video = Video(tracker)
    best = video.prompt(1, 0, click[0])
    three = image_masks(tracker.model, frame(0), click, multimask_output=True, recorder=StageRecorder())[0]
    assert len(three) == 3
    assert torch.equal(three[0].low_res_masks, best.low_res_masks)
    assert best.predicted_iou == max(s.predicted_iou for s in three)


def test_unstable_mask_falls_back_to_the_best_alternative() -> None:
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


def test_absent_objects() -> None:
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


def test_mask_prompt_becomes_the_output(tracker: Tracker) -> None:
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


def test_logits_are_returned_unchanged(tracker: Tracker) -> None:
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


def test_frames_evicted_from_the_archive_are_refused(tracker: Tracker, tmp_path: Path) -> None:
    video = Video(tracker, archive_in(tmp_path, max_bytes=2**19))
    video.prompt(1, 0, Prompt([Point(50, 60)]))
    video.track(0, 60)
    oldest = video.objects[1].bank.tracked.oldest()
    assert oldest is not None
    assert 1 < oldest < 44
    require_history_for_prompt(video.objects[1], oldest + 15)
    with pytest.raises(FrameOutOfMemory) as caught:
        require_history_for_prompt(video.objects[1], oldest + 14)
    assert caught.value.metadata["oldest_frame_index"] == str(oldest)
    with pytest.raises(FrameOutOfMemory):
        require_history_before([video.objects[1]], oldest + 14)
    # A new object needs no history on that frame.
    video.prompt(2, 3, Prompt([Point(150, 60)]))


def unbounded(obj_id: int) -> TrackedObject:
    return TrackedObject(obj_id, MemoryBank(obj_id, None, max_recent=10_000))


@pytest.mark.parametrize("reverse", [False, True])
def test_archived_frames_are_corrected_exactly(tracker: Tracker, tmp_path: Path, *, reverse: bool) -> None:
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
        # A second correction, so close that it depends on the memories that the first one cleared and kept.
        found.append(video.prompt(2, 26, Prompt([Point(150, 60)])))
        order = range(40, 4, -1) if reverse else range(15, 45)
        for states in video.track_frames(order, reverse=reverse).values():
            found += states.values()
        # Continue from frames that were tracked before the corrections.
        for states in video.track_frames(range(55, 60)).values():
            found += states.values()
        masks.append([state.low_res_masks for state in found])
    assert bounded.objects[1].bank.tracked.recent(30) is None
    assert len(masks[0]) == len(masks[1])
    for ours, theirs in zip(*masks, strict=True):
        assert torch.equal(ours, theirs)
    archive.close()


def test_removing_an_object_does_not_change_others(tracker: Tracker) -> None:
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


def test_evicted_frames_raise_frame_out_of_memory() -> None:
    tracker = Tracker(weights.build(PRESETS["test"], None))
    video = Video(tracker)
    video.prompt(1, 0, Prompt([Point(50, 60)]))
    video.track(0, 40)
    bank = video.objects[1].bank
    assert len(bank.tracked.held(range(0, 41))) == 16
    require_history_for_prompt(video.objects[1], 39)
    require_history_for_prompt(video.objects[1], 100)
    for forgotten in (10, 30):  # the frame itself is evicted, or a frame that it depends on
        with pytest.raises(FrameOutOfMemory) as caught:
            require_history_for_prompt(video.objects[1], forgotten)
        assert caught.value.metadata["frame_index"] == str(forgotten)
        assert caught.value.metadata["oldest_frame_index"] == "24"
    with pytest.raises(FrameOutOfMemory):
        require_history_before([video.objects[1]], 24)
    require_history_before([video.objects[1]], 40)
    require_history_before([video.objects[1]], 0)
