"""Results that wait until it is known which objects of concepts they show."""

from collections import deque

from gateway.streams.track_call import Result
from maskmesh.v1 import types_pb2


class HeldResults:
    """Results in order, each held for as many later results as the tracker says.

    An object that leaves is removed from the results that are held, as if it had never been found.
    """

    def __init__(self) -> None:
        self._held: deque[Result] = deque()

    def __len__(self) -> int:
        return len(self._held)

    def add(self, result: Result) -> list[Result]:
        """Add the next result; returns those that are ready, in order."""
        gone = set(result.frame.gone_obj_ids)
        if gone:
            for held in self._held:
                _remove(held.frame, gone)
        self._held.append(result)
        return [self._held.popleft() for _ in range(len(self._held) - result.hotstart_delay)]

    def flush(self) -> list[Result]:
        """The remaining results, after the last one was added."""
        remaining = list(self._held)
        self._held.clear()
        return remaining


def _remove(frame: types_pb2.FrameMasks, gone: set[int]) -> None:
    """Remove objects from a frame."""
    kept = [mask for mask in frame.objects if mask.obj_id not in gone]
    del frame.objects[:]
    frame.objects.extend(kept)
    for ids in (frame.new_obj_ids, frame.held_back_obj_ids):
        kept_ids = [obj_id for obj_id in ids if obj_id not in gone]
        del ids[:]
        ids.extend(kept_ids)
