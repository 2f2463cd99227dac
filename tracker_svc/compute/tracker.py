"""One step of the model: a prompt, a tracked frame, a memory.

Every method runs on the device's thread and changes nothing but what it returns, except :meth:`track` and
the two that memorize, which commit to the memory banks as their last act.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from maskmesh import telemetry
from maskmesh.masks import BinaryMask, LowResLogits
from maskmesh.telemetry import StageRecorder
from maskmesh.types import Prompt
from tracker_svc.memory.frame_state import FrameState
from tracker_svc.memory.memory_bank import Selection
from tracker_svc.model.memory_attention import FrameQueries
from tracker_svc.model.tracking_model import (
    ImageFeatures,
    Memories,
    ObjectPredictions,
    Pointer,
    SpatialMemory,
    TrackingModel,
)
from tracker_svc.sessions.objects import TrackedObject, as_points

# A correcting click sees the logits it corrects, within these bounds, as SAM 2 was trained.
PREVIOUS_LOGIT_LIMIT = 32.0


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame to work on: its embedding, and the size of its picture in pixels."""

    features: ImageFeatures
    width: int
    height: int


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """Objects of one session, to be tracked on one frame."""

    objects: Sequence[TrackedObject]
    frame_index: int
    frame: Frame
    recorder: StageRecorder
    reverse: bool = False

    @property
    def signatures(self) -> frozenset[tuple[int, int]]:
        """Which batches its objects need."""
        return frozenset(
            obj.bank.select(self.frame_index, reverse=self.reverse).signature
            for obj in self.objects
            if self.frame_index not in obj.bank.conditioning
        )


class _Row(NamedTuple):
    """One object in a batch: the place of its step, and what it remembers there."""

    place: int
    obj: TrackedObject
    selection: Selection


class _Stacked:
    """The frames of those steps that have rows in some batch, stacked; rows go by the places of steps."""

    def __init__(self, steps: Sequence[Step], places: Sequence[int]) -> None:
        self._steps = steps
        self._order = {place: at for at, place in enumerate(sorted(set(places)))}
        self.features = ImageFeatures.stack([steps[place].frame.features for place in self._order])

    def at(self, places: Sequence[int]) -> list[int]:
        """Where the frames of rows are among those that are stacked."""
        return [self._order[place] for place in places]

    def rows(self, places: Sequence[int]) -> ImageFeatures:
        """The features of each row, or of the one frame that all have."""
        return self.features.rows(self.at(places))

    def recorders(self, places: Sequence[int]) -> list[StageRecorder]:
        """The recorder of each step that has rows."""
        return [self._steps[place].recorder for place in sorted(set(places))]


class Tracker:
    """The stages of the tracking model, composed."""

    def __init__(self, model: TrackingModel, run_urgent_work: Callable[[], bool] = lambda: False) -> None:
        """``run_urgent_work`` is called in the middle of long work; it says whether other work was done."""
        self.model = model
        self._give_way = run_urgent_work
        self._seen: set[str] = set()
        self._synchronize: Callable[[], None] | None = None
        if model.device.type == "cuda":
            self._synchronize = lambda: torch.cuda.synchronize(model.device)

    def recorder(self, **attributes: telemetry.AttributeValue) -> StageRecorder:
        """A recorder for one piece of this tracker's work; keywords as in ``StageRecorder.stage``."""
        named = {f"maskmesh.{key.replace('__', '.')}": v for key, v in attributes.items()}
        device: dict[str, telemetry.AttributeValue] = {
            telemetry.DEVICE: str(self.model.device),
            telemetry.DTYPE: str(self.model.dtype).removeprefix("torch."),
        }
        return StageRecorder(seen=self._seen, synchronize=self._synchronize, attributes=device | named)

    @torch.inference_mode()
    def segment_image(
        self,
        frame: Frame,
        prompts: Sequence[Prompt],
        *,
        multimask_output: bool,
        recorder: StageRecorder,
    ) -> list[list[FrameState]]:
        """Decode masks without any memory: one for each prompt, or three, the most confident first.

        Unlike in a session, masks of objects that the model believes out of sight are not blanked: on
        a single image the user knows better.
        """
        results = []
        features = self.model.without_memory(frame.features)
        for prompt in prompts:
            with recorder.stage(telemetry.PROMPT_ENCODER):
                coords, labels = self._points(prompt, frame)
                logits = None
                if isinstance(prompt.mask, LowResLogits):
                    logits = self._mask_input(prompt.mask)
                encoded = self.model.encode_prompts(coords, labels, logits)
            with recorder.stage(telemetry.MASK_DECODER):
                decoded = self.model.decode(
                    features, frame.features, encoded, multimask_output=multimask_output
                )
            order = decoded.iou_predictions[0].argsort(descending=True).tolist()
            results.append(
                [
                    FrameState(
                        low_res_masks=decoded.low_res_masks[0, i : i + 1].float(),
                        predicted_iou=float(decoded.iou_predictions[0, i]),
                        object_score_logit=float(decoded.object_score_logits[0, 0]),
                        object_pointer=None,
                    )
                    for i in order
                ]
            )
        return results

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
        """The object on a frame, given all that was said of it there.

        The object's memories condition the frame only where it was tracked before; the mask that was
        there is refined unless ``clear_previous``.
        """
        if prompt.mask is not None and not isinstance(prompt.mask, LowResLogits):
            with recorder.stage(telemetry.MASK_DECODER):
                mask = self._binary_mask(prompt.mask)
                return _states(self.model.adopt_mask(frame.features, mask))[0]

        bank = obj.bank
        conditioned = self.model.without_memory(frame.features)
        reverse = bank.visited.direction(frame_index)
        if reverse is not None:
            selection = bank.select(frame_index, reverse=reverse)
            if selection.memories:
                with recorder.stage(telemetry.MEMORY_ATTENTION, object__count=1):
                    queries = self.model.query_memories(frame.features)
                    conditioned = self.model.attend_to_memories(queries, [_memories(obj, selection)])
        previous = bank.current(frame_index)
        with recorder.stage(telemetry.PROMPT_ENCODER):
            coords, labels = self._points(prompt, frame)
            logits = None
            if previous is not None and not clear_previous:
                limit = PREVIOUS_LOGIT_LIMIT
                logits = previous.low_res_masks[None].clamp(-limit, limit)
            encoded = self.model.encode_prompts(coords, labels, logits)
        with recorder.stage(telemetry.MASK_DECODER):
            # One click is ambiguous; a box, or several points, is not.
            decoded = self.model.decode(
                conditioned, frame.features, encoded, multimask_output=coords.shape[1] <= 1
            )
            return _states(self.model.select(decoded))[0]

    @torch.inference_mode()
    def track(self, steps: Sequence[Step]) -> list[dict[int, FrameState]]:
        """All objects of each step on its frame; those prompted on it are as the prompt left them.

        Objects whose selections have equal sizes are computed as one batch, of whichever steps they are.
        Returns the states of each step's objects by ``obj_id``, in their order.
        """
        states: list[dict[int, FrameState]] = [{} for _ in steps]
        rows: list[_Row] = []
        for place, step in enumerate(steps):
            for obj in step.objects:
                if step.frame_index in obj.bank.conditioning:
                    states[place][obj.obj_id] = obj.bank.conditioning[step.frame_index]
                else:
                    rows.append(_Row(place, obj, obj.bank.select(step.frame_index, reverse=step.reverse)))
        if rows:
            for row, state in self._track_rows(steps, rows):
                states[row.place][row.obj.obj_id] = state
        for step, found in zip(steps, states, strict=True):
            for obj in step.objects:
                obj.bank.visited.add(step.frame_index, reverse=step.reverse)
                if step.frame_index not in obj.bank.conditioning:
                    obj.bank.track(step.frame_index, found[obj.obj_id])
        return [
            {obj.obj_id: found[obj.obj_id] for obj in step.objects}
            for step, found in zip(steps, states, strict=True)
        ]

    def _track_rows(self, steps: Sequence[Step], rows: Sequence[_Row]) -> Iterator[tuple[_Row, FrameState]]:
        batches: dict[tuple[int, int], list[_Row]] = defaultdict(list)
        for row in rows:
            batches[row.selection.signature].append(row)
        stacked = _Stacked(steps, [row.place for row in rows])
        queries: FrameQueries | None = None
        for batch in batches.values():
            places = [row.place for row in batch]
            recorders = stacked.recorders(places)
            with telemetry.stages(recorders, telemetry.MEMORY_ATTENTION, batch__size=len(batch)):
                queries = queries or self.model.query_memories(stacked.features)
                conditioned = self.model.attend_to_memories(
                    queries.rows(stacked.at(places)),
                    [_memories(row.obj, row.selection) for row in batch],
                    pause=partial(self._pause, recorders),
                )
            yield from zip(
                batch, self._decode_rows(conditioned, stacked.rows(places), recorders), strict=True
            )

    @torch.inference_mode()
    def memorize_tracked(self, steps: Sequence[Step]) -> None:
        """Make the memories of frames that were tracked just now."""
        fresh = [
            (place, obj, state)
            for place, step in enumerate(steps)
            for obj in step.objects
            if (state := obj.bank.tracked.recent(step.frame_index)) is not None
            and state.memory_features is None
        ]
        if fresh:
            places = [place for place, _, _ in fresh]
            stacked = _Stacked(steps, places)
            memories = self._encode_memory(
                [state for _, _, state in fresh],
                stacked.rows(places),
                stacked.recorders(places),
                prompted=False,
            )
            for (place, obj, _), memory in zip(fresh, memories, strict=True):
                obj.bank.set_memory(steps[place].frame_index, memory)
        for step in steps:
            if any(obj.bank.tracked.overflows for obj in step.objects):
                with step.recorder.stage(telemetry.ARCHIVE, object__count=len(step.objects)):
                    for obj in step.objects:
                        obj.bank.tracked.spill()

    @torch.inference_mode()
    def memorize_prompted(
        self,
        objects: Sequence[TrackedObject],
        frame_index: int,
        frame: Frame,
        recorder: StageRecorder,
    ) -> None:
        """Make a prompted frame a conditioning frame of the objects that were prompted on it."""
        prompted = [
            (obj, obj.bank.prompted[frame_index]) for obj in objects if frame_index in obj.bank.prompted
        ]
        if not prompted:
            return
        memories = self._encode_memory([s for _, s in prompted], frame.features, [recorder], prompted=True)
        for (obj, _), memory in zip(prompted, memories, strict=True):
            obj.bank.make_conditioning(frame_index, memory)

    def _pause(self, recorders: Sequence[StageRecorder]) -> None:
        """Let a click go first that came meanwhile; the wait is recorded."""
        start = time.time_ns()
        if self._give_way():
            end = time.time_ns()
            for recorder in recorders:
                recorder.wait(start, end, "click")

    def _decode_rows(
        self, conditioned: Tensor, features: ImageFeatures, recorders: Sequence[StageRecorder]
    ) -> list[FrameState]:
        """conditioned: [B, C, E, E]; features of one frame, or of B."""
        batch = conditioned.shape[0]
        with telemetry.stages(recorders, telemetry.PROMPT_ENCODER, batch__size=batch):
            encoded = self.model.encode_no_prompt(batch)
        with telemetry.stages(recorders, telemetry.MASK_DECODER, batch__size=batch):
            decoded = self.model.decode(conditioned, features, encoded, multimask_output=True)
            return _states(self.model.select(decoded))

    def _encode_memory(
        self,
        states: Sequence[FrameState],
        features: ImageFeatures,
        recorders: Sequence[StageRecorder],
        *,
        prompted: bool,
    ) -> list[Tensor]:
        """features of one frame, or of one for each state."""
        device = self.model.device
        self._pause(recorders)
        with telemetry.stages(recorders, telemetry.MEMORY_ENCODER, batch__size=len(states)):
            memories = self.model.encode_memory(
                features,
                torch.stack([s.low_res_masks for s in states]),
                torch.tensor([s.object_score_logit for s in states], device=device),
                torch.full((len(states),), prompted, device=device),
            )
        # A copy each, so that a memory that is kept does not keep those of other objects.
        return [memory.clone() for memory in memories]

    def _points(self, prompt: Prompt, frame: Frame) -> tuple[Tensor, Tensor]:
        """Points and box in pixels of the model's input: [1, N, 2] and [1, N]."""
        points = as_points(prompt)
        device = self.model.device
        shares = [[x / frame.width, y / frame.height] for x, y, _ in points]
        coords = torch.tensor(shares, device=device).view(1, -1, 2) * self.model.image_size
        labels = torch.tensor([label for _, _, label in points], device=device).view(1, -1)
        return coords, labels.long()

    def _mask_input(self, logits: LowResLogits) -> Tensor:
        """Logits of an earlier answer: [1, 1, S / 4, S / 4]."""
        values = torch.from_numpy(logits.values.copy()).to(self.model.device)[None, None]
        return values.clamp(-PREVIOUS_LOGIT_LIMIT, PREVIOUS_LOGIT_LIMIT)

    def _binary_mask(self, given: BinaryMask) -> Tensor:
        """A mask of the frame at the model's size: [1, 1, S, S], zeros and ones."""
        mask = torch.from_numpy(given.decode()).to(self.model.device)[None, None].float()
        size = (self.model.image_size, self.model.image_size)
        if mask.shape[-2:] != size:
            mask = F.interpolate(mask, size=size, mode="bilinear", antialias=True)
        return (mask >= 0.5).float()


def _memories(obj: TrackedObject, selection: Selection) -> Memories:
    """The tensors of what was selected."""
    bank = obj.bank
    spatial = [SpatialMemory(bank.memory_features(m.frame_index), m.slot) for m in selection.memories]
    pointers = [Pointer(bank.object_pointer(p.frame_index), p.frames_before) for p in selection.pointers]
    return Memories(spatial, pointers)


def _states(predictions: ObjectPredictions) -> list[FrameState]:
    """One state for each object of a batch, none of them holding on to the others."""
    ious = predictions.iou_predictions.tolist()
    scores = predictions.object_score_logits.tolist()
    return [
        FrameState(
            low_res_masks=predictions.low_res_masks[i].clone(),
            predicted_iou=ious[i],
            object_score_logit=scores[i],
            object_pointer=predictions.object_pointers[i].clone(),
        )
        for i in range(len(ious))
    ]
