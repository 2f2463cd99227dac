"""The stages of the tracking model, composed into prompts, tracking steps and memory updates.

Every method runs on the device's thread.  Only :meth:`Tracker.track`, :meth:`Tracker.memorize_tracked`,
:meth:`Tracker.memorize_prompted` and the follower of concepts change memory banks; the caller changes the
objects and the concepts of the session, after all computation is complete.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from maskmesh import telemetry
from maskmesh.masks import LowResLogits
from maskmesh.nn.device import synchronizer
from maskmesh.nn.image_features import ImageFeatures
from maskmesh.nn.preemption import Preemption
from maskmesh.scheduling.device_worker import BatchedOperation
from maskmesh.telemetry import StageRecorder
from maskmesh.types import Prompt
from tracker_svc.compute.concepts import ConceptFinder
from tracker_svc.compute.follower import ConceptFollower
from tracker_svc.compute.mask_output import tracked_masks
from tracker_svc.compute.prompt_tensors import PREVIOUS_LOGIT_LIMIT, binary_mask, point_tensors
from tracker_svc.compute.states import object_states, selected_memories
from tracker_svc.compute.step import (
    Frame,
    MaskedStep,
    Row,
    StackedFrames,
    Step,
    Tracked,
    prepare_features,
)
from tracker_svc.memory.frame_state import FrameState
from tracker_svc.memory.tracked_object import TrackedObject
from tracker_svc.model.memory_attention import FrameQueries
from tracker_svc.model.tracking_model import TrackingModel

# Batches are bounded by their number of rows, one for each object; a step is assumed to have this many
# objects.
OBJECTS_PER_STEP = 4


class Tracker:
    """Runs the stages of one model.

    ``tracking`` and ``memorizing`` are :meth:`track_masks` and :meth:`memorize_tracked` as operations that
    the device worker batches over sessions, with up to ``max_batch`` steps of a few objects each.
    """

    def __init__(
        self,
        model: TrackingModel,
        *,
        finder: ConceptFinder | None = None,
        run_urgent_work: Callable[[], bool] = lambda: False,
        max_batch: int = 1,
    ) -> None:
        """``finder`` is for sessions with concepts.  ``run_urgent_work`` is called at the pause points of the
        model; it returns whether it did any work.
        """
        self.model = model
        self._seen: set[str] = set()
        self._synchronize = synchronizer(model.device)
        self._preemption = Preemption(model, run_urgent_work)
        self.follower = None if finder is None else ConceptFollower(model, finder, self._preemption)
        """Follows the objects of concepts; None if the model finds none."""
        max_rows = max_batch if max_batch == 1 else max_batch * OBJECTS_PER_STEP
        # Steps with different signatures are not computed together, so a common batch would only delay
        # them.
        self.tracking = BatchedOperation(
            self.track_masks,
            max_weight=max_rows,
            weight=lambda masked: masked.step.weight,
            batch_key=lambda masked: masked.step.signatures,
        )
        self.memorizing = BatchedOperation(
            self.memorize_tracked, max_weight=max_rows, weight=lambda step: len(step.objects)
        )

    def recorder(self, attributes: telemetry.Attributes | None = None) -> StageRecorder:
        """Create a stage recorder whose stages have ``attributes``."""
        device: telemetry.Attributes = {
            telemetry.DEVICE: str(self.model.device),
            telemetry.DTYPE: str(self.model.dtype).removeprefix("torch."),
        }
        return StageRecorder(
            seen=self._seen, synchronize=self._synchronize, attributes=device | (attributes or {})
        )

    @torch.inference_mode()
    def prompt(
        self,
        obj: TrackedObject,
        frame_index: int,
        prompt: Prompt,
        frame: Frame,
        *,
        clear_previous: bool,
        recorder: StageRecorder,
    ) -> FrameState:
        """Compute the object's state on a frame from the combined prompts on that frame.

        The object's memories condition the frame only if the object was tracked on it.  The object's mask
        on the frame is refined, unless ``clear_previous``.
        """
        prepare_features(self.model, [frame], [recorder])
        if prompt.mask is not None and not isinstance(prompt.mask, LowResLogits):
            with recorder.stage(telemetry.MASK_DECODER):
                mask = binary_mask(prompt.mask, self.model)
                return obj.scored(object_states(self.model.adopt_mask(frame.features, mask))[0])

        bank = obj.bank
        conditioned = None
        reverse = bank.visited.direction(frame_index)
        if reverse is not None:
            selection = bank.select(frame_index, reverse=reverse)
            if selection.memories:
                with recorder.stage(telemetry.MEMORY_ATTENTION, {telemetry.OBJECT_COUNT: 1}):
                    queries = self.model.query_memories(frame.features)
                    conditioned = self.model.attend_to_memories(queries, [selected_memories(obj, selection)])
        previous = bank.current(frame_index)
        with recorder.stage(telemetry.PROMPT_ENCODER):
            coords, labels = point_tensors(prompt, frame, self.model)
            logits = None
            if previous is not None and not clear_previous:
                limit = PREVIOUS_LOGIT_LIMIT
                logits = previous.low_res_masks[None].clamp(-limit, limit)
            encoded = self.model.encode_prompts(coords, labels, logits)
        with recorder.stage(telemetry.MASK_DECODER):
            if conditioned is None:
                conditioned = self.model.without_memory(frame.features)
            # One click is ambiguous; a box or several points are not.
            decoded = self.model.decode(
                conditioned, frame.features, encoded, multimask_output=coords.shape[1] <= 1
            )
            return obj.scored(object_states(self.model.select(decoded))[0])

    def track_masks(self, masked_steps: Sequence[MaskedStep]) -> list[Tracked]:
        """Run :meth:`track`, and return masks in the form of each step's options."""
        steps = [masked.step for masked in masked_steps]
        states = self.track(steps)
        if self.follower is not None:
            self.follower.follow(steps, states)
        with telemetry.stages([step.recorder for step in steps], telemetry.POSTPROCESS):
            return [
                tracked_masks(step.frame_index, step.all_objects, states_of_step, options, step.frame)
                for (step, options), states_of_step in zip(masked_steps, states, strict=True)
            ]

    @torch.inference_mode()
    def track(self, steps: Sequence[Step]) -> list[dict[int, FrameState]]:
        """Track all objects of each step on its frame; objects prompted on the frame keep the prompt's state.

        Objects whose selections have equal signatures are computed as one batch over all steps.
        Returns the states of each step's objects by ``obj_id``, in the order of the objects.
        """
        states: list[dict[int, FrameState]] = [{} for _ in steps]
        rows: list[Row] = []
        recorders = [step.recorder for step in steps]
        with telemetry.handling(recorders, telemetry.PREPARE):
            for index, step in enumerate(steps):
                for obj in step.objects:
                    if step.frame_index in obj.bank.conditioning:
                        states[index][obj.obj_id] = obj.bank.conditioning[step.frame_index]
                    else:
                        rows.append(Row(index, obj, obj.bank.select(step.frame_index, reverse=step.reverse)))
        if rows:
            for row, state in self._track_rows(steps, rows):
                states[row.step_index][row.obj.obj_id] = state
        with telemetry.handling(recorders, telemetry.COMMIT):
            for step, states_of_step in zip(steps, states, strict=True):
                for obj in step.objects:
                    obj.bank.visited.add(step.frame_index, reverse=step.reverse)
                    if step.frame_index not in obj.bank.conditioning:
                        obj.bank.track(step.frame_index, states_of_step[obj.obj_id])
        return [
            {obj.obj_id: states_of_step[obj.obj_id] for obj in step.objects}
            for step, states_of_step in zip(steps, states, strict=True)
        ]

    @torch.inference_mode()
    def memorize_tracked(self, steps: Sequence[Step]) -> list[None]:
        """Encode the memories of frames that were tracked just now, and archive the oldest states."""
        if self.follower is not None:
            for step in steps:
                self.follower.memorize(step)
                for obj in () if step.following is None else step.following.found:
                    obj.bank.visited.add(step.frame_index, reverse=step.reverse)
        unmemorized = [
            (index, obj, state)
            for index, step in enumerate(steps)
            for obj in step.remaining
            if (state := obj.bank.tracked.recent(step.frame_index)) is not None
            and state.memory_features is None
        ]
        if unmemorized:
            prepare_features(self.model, [step.frame for step in steps], [step.recorder for step in steps])
            indices = [index for index, _, _ in unmemorized]
            stacked = StackedFrames(steps, indices)
            memories = self._encode_memory(
                [state for _, _, state in unmemorized],
                stacked.rows(indices),
                stacked.recorders(indices),
                prompted=False,
            )
            for (index, obj, _), memory in zip(unmemorized, memories, strict=True):
                obj.bank.set_memory(steps[index].frame_index, memory)
        for step in steps:
            if any(obj.bank.tracked.overflows for obj in step.objects):
                with step.recorder.stage(telemetry.ARCHIVE, {telemetry.OBJECT_COUNT: len(step.objects)}):
                    for obj in step.objects:
                        obj.bank.tracked.spill()
        return [None for _ in steps]

    @torch.inference_mode()
    def memorize_prompted(self, step: Step) -> None:
        """Make the frame of a step a conditioning frame of the objects that were prompted on it."""
        index = step.frame_index
        prompted = [(obj, obj.bank.prompted[index]) for obj in step.objects if index in obj.bank.prompted]
        if not prompted:
            return
        prepare_features(self.model, [step.frame], [step.recorder])
        states = [state for _, state in prompted]
        memories = self._encode_memory(states, step.frame.features, [step.recorder], prompted=True)
        for (obj, _), memory in zip(prompted, memories, strict=True):
            obj.bank.make_conditioning(index, memory)
            obj.bank.release_corrected(kept=obj.found_frame)

    def _track_rows(self, steps: Sequence[Step], rows: Sequence[Row]) -> Iterator[tuple[Row, FrameState]]:
        batches: dict[tuple[int, int], list[Row]] = defaultdict(list)
        for row in rows:
            batches[row.selection.signature].append(row)
        prepare_features(self.model, [step.frame for step in steps], [step.recorder for step in steps])
        stacked = StackedFrames(steps, [row.step_index for row in rows])
        queries: FrameQueries | None = None
        for batch in batches.values():
            indices = [row.step_index for row in batch]
            recorders = stacked.recorders(indices)
            attributes: telemetry.Attributes = {telemetry.BATCH_SIZE: len(batch)}
            with telemetry.stages(recorders, telemetry.MEMORY_ATTENTION, attributes):
                queries = queries or self.model.query_memories(stacked.features)
                with self._preemption.enabled(recorders):
                    conditioned = self.model.attend_to_memories(
                        queries.rows(stacked.positions(indices)),
                        [selected_memories(row.obj, row.selection) for row in batch],
                    )
            with telemetry.stages(recorders, telemetry.PROMPT_ENCODER, attributes):
                encoded = self.model.encode_no_prompt(len(batch))
            with telemetry.stages(recorders, telemetry.MASK_DECODER, attributes):
                decoded = self.model.decode(
                    conditioned, stacked.rows(indices), encoded, multimask_output=True
                )
                states = object_states(self.model.select(decoded))
            for row, state in zip(batch, states, strict=True):
                yield row, row.obj.scored(state)

    def _encode_memory(
        self,
        states: Sequence[FrameState],
        features: ImageFeatures,
        recorders: Sequence[StageRecorder],
        *,
        prompted: bool,
    ) -> list[Tensor]:
        """Encode the memories of states; ``features`` are those of one frame, or of one frame for each
        state.
        """
        device = self.model.device
        with self._preemption.enabled(recorders):
            self._preemption.pause()
        with telemetry.stages(recorders, telemetry.MEMORY_ENCODER, {telemetry.BATCH_SIZE: len(states)}):
            memories = self.model.encode_memory(
                features,
                torch.stack([s.low_res_masks for s in states]),
                torch.tensor([s.object_score_logit for s in states], device=device),
                torch.full((len(states),), prompted, device=device),
            )
        # Copies, because a view would keep the memories of the whole batch.
        return [memory.clone() for memory in memories]
