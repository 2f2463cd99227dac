"""How far back a session can go: whether all is still held that counts on a frame."""

from collections.abc import Sequence

from maskmesh.errors import FrameOutOfMemory
from tracker_svc.memory.memory_bank import RECENT_POINTERS
from tracker_svc.sessions.objects import TrackedObject


def require_history_before(objects: Sequence[TrackedObject], frame_index: int, *, reverse: bool = False) -> None:
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
