"""The memory horizon: whether the states that condition a frame are still held."""

from collections.abc import Sequence

from maskmesh.errors import FrameOutOfMemory
from tracker_svc.memory.frame_state import FrameState
from tracker_svc.memory.memory_bank import RECENT_POINTERS
from tracker_svc.memory.tracked_object import TrackedObject


def require_history_before(
    objects: Sequence[TrackedObject], frame_index: int, *, reverse: bool = False
) -> None:
    """Check that the states that condition a frame are still held, so that tracking can start there.

    Raises FrameOutOfMemory if an object was tracked on a preceding frame and its state there is no longer
    held.
    """
    for obj in objects:
        _require_held(obj, frame_index, step=-1 if reverse else 1)


def held_states(objects: Sequence[TrackedObject], frame_index: int) -> dict[int, FrameState]:
    """The states of objects on a frame, by ``obj_id``, without those that the client removed.

    There are none if one that an object had on the frame is no longer held.
    """
    if any(obj.bank.is_forgotten(frame_index) for obj in objects):
        return {}
    states = {obj.obj_id: obj.bank.current(frame_index) for obj in objects if not obj.is_dismissed}
    return {obj_id: state for obj_id, state in states.items() if state is not None}


def require_history_for_prompt(obj: TrackedObject, frame_index: int) -> None:
    """Check that the states that condition a prompt on a frame are still held.

    Raises FrameOutOfMemory if the object was tracked on the frame, and its state there or a state that
    conditions the frame is no longer held.
    """
    if (reverse := obj.bank.visited.direction(frame_index)) is None:
        return
    if obj.bank.is_forgotten(frame_index):
        raise _out_of_memory(obj, frame_index)
    _require_held(obj, frame_index, step=-1 if reverse else 1)


def _require_held(obj: TrackedObject, frame_index: int, *, step: int) -> None:
    preceding_frames = (frame_index - step * distance for distance in range(1, RECENT_POINTERS + 1))
    if any(obj.bank.is_forgotten(index) for index in preceding_frames):
        raise _out_of_memory(obj, frame_index)


def _out_of_memory(obj: TrackedObject, frame_index: int) -> FrameOutOfMemory:
    oldest = obj.bank.tracked.oldest()
    return FrameOutOfMemory(
        f"the states of object {obj.obj_id} around frame {frame_index} are no longer held",
        frame_index=frame_index,
        obj_id=obj.obj_id,
        oldest_frame_index=oldest if oldest is not None else "",
    )
