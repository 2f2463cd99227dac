"""Converts the model's tensors to states of objects and back."""

from tracker_svc.memory.frame_state import FrameState
from tracker_svc.memory.memory_bank import Selection
from tracker_svc.memory.tracked_object import TrackedObject
from tracker_svc.model.mask_decoder import DecodedMasks
from tracker_svc.model.memory_attention import Memories, Pointer, SpatialMemory
from tracker_svc.model.tracking_model import ObjectPredictions


def selected_memories(obj: TrackedObject, selection: Selection) -> Memories:
    """The tensors of the memories and pointers that were selected for an object."""
    bank = obj.bank
    spatial = [SpatialMemory(bank.memory_features(m.frame_index), m.slot) for m in selection.memories]
    pointers = [Pointer(bank.object_pointer(p.frame_index), p.frames_before) for p in selection.pointers]
    return Memories(spatial, pointers)


def object_states(predictions: ObjectPredictions) -> list[FrameState]:
    """The state of each object of a batch; tensors are copied, because views would keep the whole batch."""
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


def alternative_states(decoded: DecodedMasks) -> list[FrameState]:
    """The masks of one object as states without memory, the most confident first."""
    order = decoded.iou_predictions[0].argsort(descending=True).tolist()
    return [
        FrameState(
            low_res_masks=decoded.low_res_masks[0, i : i + 1].float(),
            predicted_iou=float(decoded.iou_predictions[0, i]),
            object_score_logit=float(decoded.object_score_logits[0, 0]),
            object_pointer=None,
        )
        for i in order
    ]
