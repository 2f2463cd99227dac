"""Concepts in sessions and live streams, with the golden weights of a small SAM 3, through real processes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import pytest_asyncio
import torch

from encoder_svc.model import config as encoder_config
from encoder_svc.model import weights as encoder_weights
from encoder_svc.model.config import SYMMETRIC
from encoder_svc.model.preprocess import preprocess
from maskmesh import (
    AsyncClient,
    Concept,
    ConceptNotFound,
    ConceptOptions,
    ConceptRemovalRecord,
    Conflict,
    FrameMasks,
    InvalidRequest,
    LiveStream,
    LowResLogits,
    MaskFormat,
    MaskOptions,
    NothingPrompted,
    ObjectNotFound,
    RemovalRecord,
    SessionConcept,
    VideoSession,
    telemetry,
)
from maskmesh.cli.mesh.local_mesh import MeshOptions
from maskmesh.telemetry import StageRecorder
from tests.golden import needs_data
from tests.golden_mesh import PHRASE, golden_frames, golden_options
from tests.golden_sam3 import IMAGE_SIZE, PRESET, state, tracking_model
from tests.mesh import Mesh, running_mesh
from tracker_svc.compute.concepts import ConceptFinder
from tracker_svc.compute.step import Frame, MaskedStep, Step
from tracker_svc.compute.tokenizer import PhraseTokenizer
from tracker_svc.compute.tracker import Tracker
from tracker_svc.following.followed_concept import FollowedConcept
from tracker_svc.sessions.concept_changes import add_concept, begin_following, finish_following
from tracker_svc.sessions.limits import SessionLimits
from tracker_svc.sessions.session import Session

pytestmark = [needs_data, pytest.mark.asyncio(loop_scope="module")]

FIRST_ID = 1_000_001
LOGITS = MaskOptions(MaskFormat.LOW_RES_LOGITS)
# The scores of the golden weights are low.
KEEP = ConceptOptions(hotstart_delay=0, new_score_threshold=0.55)
SHORT = ConceptOptions(hotstart_delay=5, new_score_threshold=0.55)
NUM_FRAMES = 16


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> MeshOptions:
    return golden_options(tmp_path_factory.mktemp("weights"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory, weights: MeshOptions) -> AsyncIterator[Mesh]:
    async with running_mesh(tmp_path_factory.mktemp("traces"), weights) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def client(mesh: Mesh) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(mesh.endpoint) as connected:
        yield connected


@pytest_asyncio.fixture(loop_scope="module")
async def session(client: AsyncClient) -> AsyncIterator[VideoSession]:
    async with client.session() as opened:
        await opened.append_frames(golden_frames())
        yield opened


async def tracked(
    session: VideoSession, *, start_frame_index: int | None = None, max_frames: int = 0
) -> list[FrameMasks]:
    frames = session.propagate(
        start_frame_index=start_frame_index, max_frames=max_frames, mask_options=LOGITS
    )
    return [frame async for frame in frames]


def logits(frame: FrameMasks, obj_id: int) -> np.ndarray:
    mask = frame.objects[obj_id].mask
    assert isinstance(mask, LowResLogits)
    return mask.values


def assert_same(first: Sequence[FrameMasks], second: Sequence[FrameMasks]) -> None:
    """Frames with the same objects, masks bit for bit, scores and changes."""
    assert [f.frame_index for f in first] == [f.frame_index for f in second]
    for here, there in zip(first, second, strict=True):
        assert list(here.objects) == list(there.objects), here.frame_index
        assert (here.new_obj_ids, here.gone_obj_ids) == (there.new_obj_ids, there.gone_obj_ids)
        assert here.held_back_obj_ids == there.held_back_obj_ids
        for obj_id, mask in here.objects.items():
            assert np.array_equal(logits(here, obj_id), logits(there, obj_id)), (here.frame_index, obj_id)
            assert mask.concept_score == there.objects[obj_id].concept_score


async def test_objects_appear_with_numbers_from_the_server(session: VideoSession) -> None:
    first = await session.add_concept(3, PHRASE, options=KEEP, mask_options=LOGITS)
    assert first is not None
    assert list(first.objects) == list(first.new_obj_ids) == [FIRST_ID, FIRST_ID + 1]
    frames = await tracked(session)
    known: set[int] = set()
    for frame in frames:
        known |= set(frame.new_obj_ids)
        assert set(frame.objects) == known, frame.frame_index
        assert not frame.gone_obj_ids
        for mask in frame.objects.values():
            assert mask.concept_id == 3
            assert 0.5 < mask.concept_score < 1
    assert len(known) > 2  # some were found later
    assert np.array_equal(logits(frames[0], FIRST_ID), logits(first, FIRST_ID))
    state = await session.get_state()
    assert [o.obj_id for o in state.objects] == sorted(known)
    assert {o.concept_id for o in state.objects} == {3}
    assert [c.concept.phrase for c in state.concepts] == [PHRASE]
    assert state.concepts[0].options.hotstart_delay == 0


async def test_split_equals_unsplit(session: VideoSession, weights: MeshOptions) -> None:
    """Found objects and their masks are bit for bit those of the stages in one process."""
    await session.add_concept(1, PHRASE, frame_index=None, options=KEEP)
    frames = await tracked(session)
    encoder = encoder_weights.build(encoder_config.PRESETS[PRESET], state())
    model = tracking_model()
    assert model.detector is not None
    assert weights.vocabulary is not None
    finder = ConceptFinder(model.detector, PhraseTokenizer.load(weights.vocabulary, context_length=32))
    tracker = Tracker(model, finder=finder)
    own = Session("own", 60, limits=SessionLimits(memory_rules=model.memory_rules))
    add_concept(own, FollowedConcept.of(SessionConcept(1, Concept(PHRASE), None, KEEP, FIRST_ID)), None)
    for index, (picture, split) in enumerate(zip(golden_frames(), frames, strict=True)):
        with torch.inference_mode():
            image = preprocess(
                torch.from_numpy(picture), IMAGE_SIZE, torch.device("cpu"), torch.float32, SYMMETRIC
            )
            frame = Frame(encoder(image), picture.shape[1], picture.shape[0])
        following = begin_following(own, own.concepts.searching)
        assert following is not None
        step = Step(list(own.objects.values()), index, frame, StageRecorder(), following=following)
        [unsplit] = tracker.track_masks([MaskedStep(step, LOGITS)])
        tracker.memorize_tracked([step])
        finish_following(own, following)
        assert [mask.obj_id for mask in unsplit.masks] == list(split.objects)
        for mask in unsplit.masks:
            assert isinstance(mask.mask, LowResLogits)
            assert np.array_equal(mask.mask.values, logits(split, mask.obj_id)), (index, mask.obj_id)


async def test_false_objects_are_never_shown(session: VideoSession) -> None:
    """Results are delayed by the hotstart, and objects that leave meanwhile are in none of them."""
    await session.add_concept(1, PHRASE, options=SHORT)
    frames = await tracked(session)
    assert [f.frame_index for f in frames] == list(range(NUM_FRAMES))
    gone = {obj_id for frame in frames for obj_id in frame.gone_obj_ids}
    shown = {obj_id for frame in frames for obj_id in frame.objects}
    assert gone
    assert shown
    assert not gone & shown
    assert {o.obj_id for o in (await session.get_state()).objects} == shown


async def test_a_propagation_resumes_while_results_are_delayed(
    client: AsyncClient, session: VideoSession
) -> None:
    await session.add_concept(1, PHRASE, options=SHORT)
    whole = await tracked(session)
    async with client.session() as again:
        await again.append_frames(golden_frames())
        await again.add_concept(1, PHRASE, options=SHORT)
        pieces: list[FrameMasks] = []
        token = ""
        while len(pieces) < NUM_FRAMES:
            stream = again.propagate(mask_options=LOGITS, resume_token=token)
            async for frame in stream:
                pieces.append(frame)
                token = frame.resume_token
                if len(pieces) in (1, 4, 11):
                    break
            await stream.aclose()
    assert_same(pieces, whole)


async def test_history_repeats_the_objects(client: AsyncClient, session: VideoSession) -> None:
    """Also corrections and removals of found objects, and a concept that is added later."""
    await session.add_concept(1, PHRASE, options=KEEP)
    await tracked(session, max_frames=4)
    await session.add_prompt(3, FIRST_ID, points=[(100, 100)])
    await session.remove_object(FIRST_ID + 1)
    await session.add_concept(2, "dog", frame_index=4, options=KEEP)
    rest = await tracked(session, start_frame_index=4)
    history = (await session.get_state()).history
    assert [type(entry).__name__ for entry in history] == [
        "SessionConcept", "FrameRange", "PromptRecord", "RemovalRecord", "SessionConcept", "FrameRange",
    ]  # fmt: skip
    assert RemovalRecord(FIRST_ID + 1, 1) in history
    await session.remove_concept(1)
    async with client.session() as other:
        await other.append_frames(golden_frames())
        await other.replay((await session.get_state()).history)
        second = [o.obj_id for o in (await other.get_state()).objects]
    assert second == [o.obj_id for o in (await session.get_state()).objects]
    assert min(second) > 2_000_000  # the numbers of the second concept, also without the first
    async with client.session() as other:
        await other.append_frames(golden_frames())
        await other.replay(history[:-1])
        assert_same(await tracked(other, start_frame_index=4), rest)
        assert (await other.get_state()).history == history


async def test_a_removed_object_is_not_found_again(client: AsyncClient, session: VideoSession) -> None:
    await session.add_concept(1, PHRASE, options=KEEP)
    await tracked(session, max_frames=3)
    remaining = await session.remove_object(FIRST_ID)
    assert FIRST_ID not in remaining
    with pytest.raises(ObjectNotFound):
        await session.add_prompt(2, FIRST_ID, points=[(100, 100)])
    removed = await tracked(session, start_frame_index=3, max_frames=3)
    assert all(FIRST_ID not in frame.objects for frame in removed)
    assert FIRST_ID not in [o.obj_id for o in (await session.get_state()).objects]
    async with client.session() as kept:
        await kept.append_frames(golden_frames())
        await kept.add_concept(1, PHRASE, options=KEEP)
        everything = await tracked(kept, max_frames=6)
    # It still keeps its detections from becoming objects, so no other object appears in its place.
    assert [f.new_obj_ids for f in removed] == [f.new_obj_ids for f in everything[3:]]


async def test_corrections_hold_on_found_objects(session: VideoSession) -> None:
    await session.add_concept(1, PHRASE, options=SHORT)
    corrected = await session.add_prompt(0, FIRST_ID, points=[(100, 100)], mask_options=LOGITS)
    assert corrected.objects[FIRST_ID].concept_id == 1
    frames = await tracked(session)
    assert np.array_equal(logits(frames[0], FIRST_ID), logits(corrected, FIRST_ID))
    # An object that the client prompted does not leave as false.
    assert all(FIRST_ID in frame.objects for frame in frames)
    with pytest.raises(InvalidRequest, match="RemoveObject removes it"):
        await session.clear_prompts(0, FIRST_ID)
    mask = np.zeros((336, 336), dtype=bool)
    mask[50:150, 60:160] = True
    await session.add_prompt(5, FIRST_ID, mask=mask)
    assert FIRST_ID in await session.clear_prompts(5, FIRST_ID)


async def test_clicked_objects_beside_concepts(client: AsyncClient, session: VideoSession) -> None:
    """Clicked objects are tracked as without concepts, and keep their numbers."""
    await session.add_prompt(0, 7, points=[(100, 100)])
    alone = await tracked(session)
    async with client.session() as other:
        await other.append_frames(golden_frames())
        await other.add_prompt(0, 1_000_050, box=(20, 20, 90, 90))
        await other.add_concept(1, PHRASE, options=KEEP)
        await other.add_prompt(0, 7, points=[(100, 100)])
        with pytest.raises(ObjectNotFound):  # a number of the concept
            await other.add_prompt(0, 2_000_050, points=[(100, 100)])
        both = await tracked(other)
    for before, after in zip(alone, both, strict=True):
        # Computed in another batch.
        assert np.allclose(logits(before, 7), logits(after, 7), atol=1e-3)
        assert after.objects[7].concept_id is None
    found = sorted({obj_id for frame in both for obj_id in frame.new_obj_ids})
    assert found == list(range(2_000_001, 2_000_001 + len(found)))  # not among the client's numbers


async def test_several_concepts_are_followed_apart(client: AsyncClient, session: VideoSession) -> None:
    await session.add_concept(1, PHRASE, options=KEEP)
    alone = await tracked(session)
    async with client.session() as other:
        await other.append_frames(golden_frames())
        await other.add_concept(1, PHRASE, options=KEEP)
        await other.add_concept(2, Concept("dog"), options=KEEP)
        both = await tracked(other)
    for before, after in zip(alone, both, strict=True):
        ours = [mask for mask in after.objects.values() if mask.concept_id == 1]
        assert len(ours) == len(before.objects)
        for mine, theirs in zip(ours, before.objects.values(), strict=True):
            # A batch of two concepts differs from one by rounding.
            assert isinstance(mine.mask, LowResLogits)
            assert isinstance(theirs.mask, LowResLogits)
            assert np.allclose(mine.mask.values, theirs.mask.values, atol=1e-2)


async def test_boxes_alone_find_objects_on_their_frame_only(session: VideoSession) -> None:
    concept = Concept.of("", [(18, 48, 102, 132)])
    found = await session.add_concept(1, concept, frame_index=2)
    assert found is not None
    assert found.objects
    frames = await tracked(session)
    assert frames[0].frame_index == 2
    for frame in frames:
        assert list(frame.objects) == list(found.objects)
        assert all(mask.concept_id == 1 for mask in frame.objects.values())
    assert found.objects.keys() - set(await session.remove_object(FIRST_ID)) == {FIRST_ID}


async def test_concepts_are_removed_with_or_without_their_objects(session: VideoSession) -> None:
    with pytest.raises(NothingPrompted):
        await tracked(session)
    assert await session.add_concept(1, PHRASE, frame_index=None, options=KEEP) is None
    frames = await tracked(session, max_frames=3)
    assert frames[0].new_obj_ids
    kept = list(frames[-1].objects)
    assert await session.remove_concept(1, keep_objects=True) == kept
    assert ConceptRemovalRecord(1) in (await session.get_state()).history
    later = await tracked(session, start_frame_index=3, max_frames=6)
    assert all(list(frame.objects) == kept and not frame.new_obj_ids for frame in later)
    await session.add_concept(2, "dog", frame_index=9, options=KEEP)
    assert await session.remove_concept(2) == kept
    assert 2 not in [
        e.concept_id for e in (await session.get_state()).history if isinstance(e, SessionConcept)
    ]
    with pytest.raises(ConceptNotFound) as caught:
        await session.remove_concept(2)
    assert caught.value.metadata["concept_id"] == "2"


async def test_a_repeated_call_adds_one_concept(session: VideoSession) -> None:
    first = await session.add_concept(1, PHRASE, idempotency_key="once", mask_options=LOGITS)
    again = await session.add_concept(1, PHRASE, idempotency_key="once", mask_options=LOGITS)
    assert first is not None
    assert again is not None
    assert list(first.objects) == list(again.objects)
    with pytest.raises(Conflict):
        await session.add_concept(1, "dog", idempotency_key="once")
    with pytest.raises(InvalidRequest, match="has a concept 1 already") as caught:
        await session.add_concept(1, "dog")
    assert caught.value.field == "concept_id"
    with pytest.raises(Conflict):
        await session.add_concept(2, "dog", expected_revision=0)
    assert len((await session.get_state()).concepts) == 1


async def test_a_number_of_a_concept_may_be_used_again(client: AsyncClient, session: VideoSession) -> None:
    """The history of the second concept does not touch the objects that the first one left."""
    await session.add_concept(7, PHRASE, options=KEEP)
    kept = await session.remove_concept(7, keep_objects=True)
    await session.add_concept(7, "dog", frame_index=1, options=KEEP)
    assert await session.remove_concept(7) == kept
    history = (await session.get_state()).history
    async with client.session() as other:
        await other.append_frames(golden_frames())
        await other.replay(history)
        assert [o.obj_id for o in (await other.get_state()).objects] == kept


async def test_a_reset_removes_concepts(session: VideoSession) -> None:
    await session.add_concept(1, PHRASE, options=KEEP)
    first = await tracked(session, max_frames=3)
    await session.reset()
    state = await session.get_state()
    assert (state.concepts, state.objects, state.history) == ([], [], [])
    with pytest.raises(NothingPrompted):
        await tracked(session)
    await session.add_concept(1, PHRASE, options=KEEP)
    assert_same(await tracked(session, max_frames=3), first)


async def test_objects_of_a_concept_are_limited(session: VideoSession) -> None:
    await session.add_concept(1, PHRASE, options=replace(KEEP, max_objects=1))
    assert {obj_id for frame in await tracked(session) for obj_id in frame.objects} == {FIRST_ID}


async def test_detection_every_third_frame(session: VideoSession) -> None:
    await session.add_concept(1, PHRASE, options=replace(KEEP, detect_every=3))
    for frame in await tracked(session):
        assert (telemetry.DETECTOR_DECODER in frame.stage_seconds) is (frame.frame_index % 3 == 0)
        assert not frame.new_obj_ids or frame.frame_index % 3 == 0


async def test_decisions_are_events_of_the_frame(mesh: Mesh, session: VideoSession) -> None:
    await session.add_concept(1, PHRASE, options=SHORT)
    frames = await tracked(session)
    traces = await mesh.complete_traces([frame.trace_id for frame in frames])
    events = [event for trace in traces.values() for span in trace.spans.values() for event in span.events]
    names = {name for name, _ in events}
    assert {telemetry.OBJECT_FOUND, telemetry.OBJECT_GONE, telemetry.OBJECT_UNMATCHED} <= names
    gone = {int(a[telemetry.OBJECT_ID]) for name, a in events if name == telemetry.OBJECT_GONE}
    assert gone == {obj_id for frame in frames for obj_id in frame.gone_obj_ids}
    assert {a[telemetry.REASON] for name, a in events if name == telemetry.OBJECT_GONE} <= {
        "unmatched",
        "duplicate",
    }


async def collect(stream: LiveStream, frames: list[FrameMasks]) -> None:
    async for result in stream:
        frames.append(result.frame)


async def test_a_live_stream_follows_a_concept(client: AsyncClient, session: VideoSession) -> None:
    """A concept that is added before the first frame finds what a propagation without a delay finds."""
    await session.add_concept(1, PHRASE, frame_index=None, options=KEEP)
    expected = await tracked(session)
    results: list[FrameMasks] = []
    async with client.stream(mask_options=LOGITS) as stream, asyncio.TaskGroup() as tasks:
        tasks.create_task(collect(stream, results))
        assert await stream.add_concept(1, PHRASE, options=KEEP) is None
        for frame in golden_frames():
            await stream.send(frame)
        await stream.finish()
    assert_same(results, expected)


async def test_concepts_come_and_go_in_a_live_stream(client: AsyncClient) -> None:
    results: list[FrameMasks] = []
    async with client.stream(mask_options=LOGITS) as stream, asyncio.TaskGroup() as tasks:
        tasks.create_task(collect(stream, results))
        for frame in golden_frames()[:4]:
            await stream.send(frame)
        while len(results) < 4:  # a concept may act on frames that are not tracked yet
            await asyncio.sleep(0.01)
        found = await stream.add_concept(5, PHRASE, sequence=3)
        assert found is not None
        assert list(found.objects) == [FIRST_ID, FIRST_ID + 1, FIRST_ID + 2]
        with pytest.raises(InvalidRequest) as caught:
            await stream.add_concept(6, "dog", options=ConceptOptions(hotstart_delay=3))
        assert caught.value.field == "concept.options.hotstart_delay"
        with pytest.raises(InvalidRequest) as caught:
            await stream.add_concept(6, "dog", sequence=9)
        assert caught.value.field == "concept.sequence"
        for frame in golden_frames()[4:8]:
            await stream.send(frame)
        while len(results) < 8:  # a removal does not wait for the frames before it
            await asyncio.sleep(0.01)
        assert await stream.remove_concept(5) == []
        with pytest.raises(ConceptNotFound):
            await stream.remove_concept(5)
        for frame in golden_frames()[8:10]:
            await stream.send(frame)
        await stream.finish()
    counts = [len(frame.objects) for frame in results]
    assert counts[:4] == [0] * 4
    assert min(counts[4:8]) >= 3
    assert counts[8:] == [0, 0]
