"""Following the objects of concepts: detection, decision, and the memories that differ from clicked objects.

Runs on the device's thread.  The source of the order of steps is the reference implementation of SAM 3; the
rules are in :mod:`tracker_svc.following`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from maskmesh import telemetry
from maskmesh.nn.preemption import Preemption
from maskmesh.telemetry import StageRecorder
from tracker_svc.compute.concepts import ConceptFinder, Search
from tracker_svc.compute.states import object_states
from tracker_svc.compute.step import Frame, Step, prepare_features
from tracker_svc.following.decision import Decision, Detected, Tracks, decide
from tracker_svc.following.followed_concept import FollowedConcept
from tracker_svc.following.following_step import Following
from tracker_svc.following.mask_rules import hide_shrunk, without_specks
from tracker_svc.memory.frame_state import FrameState
from tracker_svc.memory.tracked_object import TrackedObject
from tracker_svc.model.memory_masks import disjoint
from tracker_svc.model.tracking_model import TrackingModel

# The object score of a detection, as of a mask that is a prompt.
FOUND_SCORE_LOGIT = 10.0

# Objects whose memories are encoded at once; the masks at this stage are large.
MEMORIES_PER_BATCH = 8


class ConceptFollower:
    """Finds the objects of concepts on the frames of a session, and follows them."""

    def __init__(self, model: TrackingModel, finder: ConceptFinder, preemption: Preemption) -> None:
        self._model = model
        self._finder = finder
        self._preemption = preemption

    @torch.inference_mode()
    def follow(self, steps: Sequence[Step], states: Sequence[dict[int, FrameState]]) -> None:
        """Decide what happens to the objects of each concept on the frames that they were tracked to.

        ``states`` are those of each step's objects, by ``obj_id``; they get the new objects and lose those
        that leave.  The searches of all steps are computed together.
        """
        with self._preemption.enabled([step.recorder for step in steps if step.following is not None]):
            detected = self._detect(steps)
        for step, states_of_step, detected_of_step in zip(steps, states, detected, strict=True):
            self._decide(step, states_of_step, detected_of_step)

    @torch.inference_mode()
    def find(
        self, following: Following, frame_index: int, frame: Frame, recorder: StageRecorder
    ) -> dict[int, FrameState]:
        """Find and memorize the first objects of new concepts on a frame; returns their states."""
        states: dict[int, FrameState] = {}
        step = Step([], frame_index, frame, recorder, following=following)
        self._decide(step, states, self._detect([step])[0])
        self.memorize(step)
        return states

    def apply(
        self,
        step: Step,
        concept: FollowedConcept,
        objects: Sequence[TrackedObject],
        decision: Decision,
        states: dict[int, FrameState],
    ) -> None:
        """Put a decision into effect on the states of a frame."""
        following = step.following
        assert following is not None, "the step has concepts"
        for obj, shown in zip(objects, decision.shown, strict=True):
            if obj.obj_id in decision.gone:
                del states[obj.obj_id]
                continue
            score = decision.scores.get(obj.obj_id, obj.concept_score)
            state = replace(states[obj.obj_id], concept_score=score)
            if step.frame_index in obj.bank.conditioning:  # the mask there holds
                obj.bank.conditioning[step.frame_index] = state
            else:
                state = replace(state, low_res_masks=shown[None].clone())
                obj.bank.track(step.frame_index, state)
            states[obj.obj_id] = state
        if decision.detected is not None:
            shown = without_specks(decision.detected.logits, concept.rules.speck_area)
            for obj_id, index in decision.new.items():
                obj = following.make(obj_id)
                obj.found_frame = step.frame_index
                obj.concept_id = concept.concept_id
                obj.concept_score = decision.scores[obj_id]
                following.found.append(obj)
                states[obj_id] = FrameState(
                    low_res_masks=shown[index][None].clone(),
                    predicted_iou=1.0,
                    object_score_logit=FOUND_SCORE_LOGIT,
                    object_pointer=None,
                    concept_score=obj.concept_score,
                )
                following.found_states[obj_id] = states[obj_id]
        following.decisions[concept.concept_id] = decision

    @torch.inference_mode()
    def memorize(self, step: Step) -> None:
        """Encode the memories of the objects that concepts found, on the frame that was decided."""
        following = step.following
        if following is None:
            return
        prepare_features(self._model, [step.frame], [step.recorder])
        for concept in following.concepts:
            decision = following.decisions[concept.concept_id]
            self._memorize_tracked(step, concept, decision)
            self._memorize_found(step, following, decision)

    def _detect(self, steps: Sequence[Step]) -> list[dict[int, Detected]]:
        """The detections of each step's concepts that are searched on its frame, by ``concept_id``."""
        due = [
            (number, concept, Search(
                step.frame, concept.concept_on(step.frame_index), concept.rules.detection_score, step.recorder
            ))
            for number, step in enumerate(steps)
            if step.following is not None
            for concept in step.following.concepts
            if concept.is_due(step.frame_index)
        ]  # fmt: skip
        size = self._model.low_res_size
        detected: list[dict[int, Detected]] = [{} for _ in steps]
        found = self._finder.search([search for _, _, search in due])
        for (number, concept, _), detections in zip(due, found, strict=True):
            masks = torch.zeros(0, size, size) if detections.masks is None else detections.masks
            detected[number][concept.concept_id] = Detected(detections.scores, masks)
        return detected

    def _decide(self, step: Step, states: dict[int, FrameState], detected: Mapping[int, Detected]) -> None:
        """Decide for the concepts of one step, and put that into effect on the states."""
        following = step.following
        if following is None:
            return
        following.begin()
        with step.recorder.stage(telemetry.ASSOCIATE):
            for concept in following.concepts:
                objects = [obj for obj in step.objects if obj.concept_id == concept.concept_id]
                decision = decide(
                    self._tracks(objects, states),
                    detected.get(concept.concept_id),
                    concept.life,
                    concept.rules,
                    frame_index=step.frame_index,
                    next_id=concept.next_id,
                    room=following.room_left,
                    reverse=step.reverse,
                )
                self.apply(step, concept, objects, decision, states)

    def _tracks(self, objects: Sequence[TrackedObject], states: Mapping[int, FrameState]) -> Tracks:
        size = self._model.low_res_size
        masks = [states[obj.obj_id].low_res_masks[0] for obj in objects]
        return Tracks(
            obj_ids=[obj.obj_id for obj in objects],
            logits=torch.stack(masks) if masks else torch.zeros(0, size, size, device=self._model.device),
            object_score_logits=[states[obj.obj_id].object_score_logit for obj in objects],
            dismissed=[obj.obj_id for obj in objects if obj.is_dismissed],
            confirmed=[obj.obj_id for obj in objects if obj.prompts and not obj.is_dismissed],
        )

    def _memorize_tracked(self, step: Step, concept: FollowedConcept, decision: Decision) -> None:
        """Memorize tracked objects by the masks that were decided; sure detections prompt them again."""
        objects = [obj for obj in step.objects if obj.concept_id == concept.concept_id]
        rows = [
            row
            for row, obj in enumerate(objects)
            if obj.obj_id not in decision.gone and step.frame_index not in obj.bank.conditioning
        ]
        if not rows:
            return
        masks = hide_shrunk(self._model.enlarge(decision.memorized)[:, 0], concept.rules.shrink_ratio)[rows]
        pointers = self._detected_pointers(step, decision, list(decision.reconditioned.values()))
        again = dict(zip(decision.reconditioned, pointers, strict=True))
        memories = self._memories(step, masks[:, None], prompted=False)
        for row, memory in zip(rows, memories, strict=True):
            bank = objects[row].bank
            if (pointer := again.get(objects[row].obj_id)) is not None:
                state = bank.tracked.recent(step.frame_index)
                assert state is not None, "the frame was tracked just now"
                state = replace(state, object_pointer=pointer, memory_features=memory)
                bank.condition(step.frame_index, state)
                bank.release_detected(step.frame_index, kept=objects[row].found_frame)
            else:
                bank.set_memory(step.frame_index, memory)

    def _memorize_found(self, step: Step, following: Following, decision: Decision) -> None:
        """Make the frame the first conditioning frame of new objects, by their detections."""
        if not decision.new or decision.detected is None:
            return
        indices = list(decision.new.values())
        pointers = self._detected_pointers(step, decision, indices)
        masks = (self._model.enlarge(decision.detected.logits[indices]) > 0) * 2.0 - 1.0
        memories = self._memories(step, disjoint(masks), prompted=True)
        found = {obj.obj_id: obj for obj in following.found}
        for obj_id, pointer, memory in zip(decision.new, pointers, memories, strict=True):
            state = following.found_states[obj_id]
            state = replace(state, object_pointer=pointer, memory_features=memory)
            found[obj_id].bank.condition(step.frame_index, state)

    def _detected_pointers(self, step: Step, decision: Decision, indices: Sequence[int]) -> list[Tensor]:
        """The object pointers of detections, whose masks prompt the tracking model."""
        if not indices or decision.detected is None:
            return []
        attributes: telemetry.Attributes = {telemetry.BATCH_SIZE: len(indices)}
        with step.recorder.stage(telemetry.MASK_DECODER, attributes):
            masks = (self._model.enlarge(decision.detected.logits[list(indices)]) > 0).float()
            states = object_states(self._model.adopt_mask(step.frame.features, masks))
        return [state.object_pointer for state in states if state.object_pointer is not None]

    def _memories(self, step: Step, masks: Tensor, *, prompted: bool) -> Iterator[Tensor]:
        """masks: [B, 1, 16 E, 16 E] logits; yields B memories."""
        for batch in masks.split(MEMORIES_PER_BATCH):
            attributes: telemetry.Attributes = {telemetry.BATCH_SIZE: len(batch)}
            with step.recorder.stage(telemetry.MEMORY_ENCODER, attributes):
                encoded = self._model.encode_followed(step.frame.features, batch, prompted=prompted)
            yield from (memory.clone() for memory in encoded)
