"""One step of the model: a prompt, a tracked frame, a memory.

Every method runs on the device's thread and changes nothing but what it returns, except :meth:`track` and
the two that memorize, which commit to the memory banks as their last act.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from maskmesh import telemetry
from maskmesh.errors import FrameOutOfMemory
from maskmesh.masks import BinaryMask, LowResLogits
from maskmesh.telemetry import StageRecorder
from maskmesh.types import Prompt
from tracker_svc.frame_state import FrameState
from tracker_svc.memory_bank import RECENT_POINTERS, Selection
from tracker_svc.model.memory_attention import FrameQueries
from tracker_svc.model.tracking_model import (
    ImageFeatures,
    Memories,
    ObjectPredictions,
    Pointer,
    SpatialMemory,
    TrackingModel,
)
from tracker_svc.objects import TrackedObject, as_points

# A correcting click sees the logits it corrects, within these bounds, as SAM 2 was trained.
PREVIOUS_LOGIT_LIMIT = 32.0


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame to work on: its embedding, and the size of its picture in pixels."""

    features: ImageFeatures
    width: int
    height: int


class Tracker:
    """The stages of the tracking model, composed."""

    def __init__(self, model: TrackingModel) -> None:
        self.model = model
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
    def track(
        self,
        objects: Sequence[TrackedObject],
        frame_index: int,
        frame: Frame,
        *,
        reverse: bool = False,
        recorder: StageRecorder,
    ) -> dict[int, FrameState]:
        """All objects on the next frame; those prompted on it are as the prompt left them.

        Objects whose selections have equal sizes are computed as one batch.
        """
        states: dict[int, FrameState] = {}
        batches: dict[tuple[int, int], list[tuple[TrackedObject, Selection]]] = defaultdict(list)
        for obj in objects:
            if frame_index in obj.bank.conditioning:
                states[obj.obj_id] = obj.bank.conditioning[frame_index]
            else:
                selection = obj.bank.select(frame_index, reverse=reverse)
                batches[selection.signature].append((obj, selection))
        queries: FrameQueries | None = None
        for batch in batches.values():
            with recorder.stage(telemetry.MEMORY_ATTENTION, batch__size=len(batch)):
                queries = queries or self.model.query_memories(frame.features)
                conditioned = self.model.attend_to_memories(
                    queries, [_memories(obj, selection) for obj, selection in batch]
                )
            predicted = self._decode_batch(conditioned, frame, recorder)
            states |= {obj.obj_id: s for (obj, _), s in zip(batch, predicted, strict=True)}
        for obj in objects:
            obj.bank.visited.add(frame_index, reverse=reverse)
            if frame_index not in obj.bank.conditioning:
                obj.bank.track(frame_index, states[obj.obj_id])
        return {obj.obj_id: states[obj.obj_id] for obj in objects}

    @torch.inference_mode()
    def memorize_tracked(
        self,
        objects: Sequence[TrackedObject],
        frame_index: int,
        frame: Frame,
        recorder: StageRecorder,
    ) -> None:
        """Make the memories of a frame that was tracked just now."""
        fresh = [
            (obj, state)
            for obj in objects
            if (state := obj.bank.tracked.recent(frame_index)) is not None and state.memory_features is None
        ]
        features = self._encode_memory([s for _, s in fresh], frame, recorder, prompted=False)
        for (obj, _), memory in zip(fresh, features, strict=True):
            obj.bank.remember(frame_index, memory)
        if any(obj.bank.tracked.overflows for obj in objects):
            with recorder.stage(telemetry.ARCHIVE, object__count=len(objects)):
                for obj in objects:
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
        features = self._encode_memory([s for _, s in prompted], frame, recorder, prompted=True)
        for (obj, _), memory in zip(prompted, features, strict=True):
            obj.bank.memorize(frame_index, memory)

    def _decode_batch(self, conditioned: Tensor, frame: Frame, recorder: StageRecorder) -> list[FrameState]:
        """conditioned: [B, C, E, E]."""
        batch = conditioned.shape[0]
        with recorder.stage(telemetry.PROMPT_ENCODER, batch__size=batch):
            encoded = self.model.encode_no_prompt(batch)
        with recorder.stage(telemetry.MASK_DECODER, batch__size=batch):
            decoded = self.model.decode(conditioned, frame.features, encoded, multimask_output=True)
            return _states(self.model.select(decoded))

    def _encode_memory(
        self, states: Sequence[FrameState], frame: Frame, recorder: StageRecorder, *, prompted: bool
    ) -> Sequence[Tensor]:
        if not states:
            return []
        device = self.model.device
        with recorder.stage(telemetry.MEMORY_ENCODER, batch__size=len(states)):
            features = self.model.encode_memory(
                frame.features,
                torch.stack([s.low_res_masks for s in states]),
                torch.tensor([s.object_score_logit for s in states], device=device),
                torch.full((len(states),), prompted, device=device),
            )
        # A copy each, so that a memory that is kept does not keep those of other objects.
        return [memory.clone() for memory in features]

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


def check_remembered(objects: Sequence[TrackedObject], frame_index: int, *, reverse: bool = False) -> None:
    """Whether tracking can start at a frame as if nothing had been dropped.

    Raises FrameOutOfMemory where frames just before it were tracked and are no longer held.
    """
    for obj in objects:
        _check_held(obj, frame_index, step=-1 if reverse else 1)


def check_promptable(obj: TrackedObject, frame_index: int) -> None:
    """Whether a prompt on a frame sees all that it would see if nothing had been dropped.

    Raises FrameOutOfMemory where the frame was tracked and it, or what counts on it, is no longer held.
    """
    if (reverse := obj.bank.visited.direction(frame_index)) is None:
        return
    if obj.bank.is_forgotten(frame_index):
        raise _out_of_memory(obj, frame_index)
    _check_held(obj, frame_index, step=-1 if reverse else 1)


def _check_held(obj: TrackedObject, frame_index: int, *, step: int) -> None:
    before = (frame_index - step * distance for distance in range(1, RECENT_POINTERS + 1))
    if any(obj.bank.is_forgotten(index) for index in before):
        raise _out_of_memory(obj, frame_index)


def _out_of_memory(obj: TrackedObject, frame_index: int) -> FrameOutOfMemory:
    oldest = obj.bank.tracked.oldest()
    return FrameOutOfMemory(
        f"what was known of object {obj.obj_id} around frame {frame_index} is no longer held",
        frame_index=frame_index,
        obj_id=obj.obj_id,
        oldest_frame_index=oldest if oldest is not None else "",
    )


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
