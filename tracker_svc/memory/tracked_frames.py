"""The tracked frames of one object: the newest in memory, older ones in the session's archive."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from torch import Tensor

from tracker_svc.memory.archive import SessionArchive
from tracker_svc.memory.frame_state import FrameState, Held

# The number of good frames that one frame selects at most.
SELECTED_GOOD_FRAMES = 15


class TrackedFrames:
    """States by frame index; the ``max_recent`` frames that were tracked last are in memory.

    :meth:`spill` moves older states to the archive, or drops them if the session has no archive.  If memories
    are selected by quality, as many good older states stay in memory as a later frame may select.
    """

    def __init__(
        self,
        obj_id: int,
        archive: SessionArchive | None,
        *,
        max_recent: int,
        min_quality: float | None = None,
    ) -> None:
        self._obj_id = obj_id
        self._archive = archive
        self._max_recent = max_recent
        self._min_quality = min_quality
        self._recent: dict[int, FrameState] = {}
        self._touched: set[int] = set()
        self._released: set[int] = set()

    def __contains__(self, frame_index: int) -> bool:
        return frame_index in self.held([frame_index])

    def get(self, frame_index: int) -> FrameState | None:
        """The state on a frame, None if it is not held."""
        state = self._recent.get(frame_index)
        if state is None and self._archive is not None:
            state = self._archive.get(self._obj_id, frame_index)
        return state

    @property
    def in_memory(self) -> Mapping[int, FrameState]:
        """The states in memory, in the order in which they were tracked."""
        return self._recent

    def archived_frames(self) -> list[int]:
        """The frames whose states are only in the archive, in the order in which they were archived."""
        if self._archive is None:
            return []
        return [i for i in self._archive.frames(self._obj_id) if i not in self._recent]

    def take_touched(self) -> set[int]:
        """The frames whose states were cleared or deleted since the last call."""
        touched, self._touched = self._touched, set()
        return touched

    def restore(self, frame_index: int, state: FrameState, *, recent: bool) -> None:
        """Add a state of a restored session, the oldest first; to memory if ``recent``, else to the
        archive.
        """
        if recent:
            self._recent[frame_index] = state
        elif self._archive is not None:
            self._archive.put(self._obj_id, frame_index, state)

    def recent(self, frame_index: int) -> FrameState | None:
        """The state on a frame, None if it is not in memory."""
        return self._recent.get(frame_index)

    @property
    def overflows(self) -> bool:
        """Whether memory has states that :meth:`spill` would move."""
        return len(self._recent) > self._max_recent and bool(self._surplus())

    def pointer(self, frame_index: int) -> Tensor | None:
        """The pointer on a frame, without the rest of its state."""
        if frame_index in self._recent:
            return self._recent[frame_index].object_pointer
        return self._archive.pointer(self._obj_id, frame_index) if self._archive is not None else None

    def held(self, frames: Collection[int]) -> dict[int, Held]:
        """Which parts are held on each of these frames; frames without a state are left out."""
        held = {i: self._recent[i].held for i in frames if i in self._recent}
        if self._archive is not None and len(held) < len(frames):
            held |= self._archive.held(self._obj_id, [i for i in frames if i not in held])
        return held

    def put(self, frame_index: int, state: FrameState) -> None:
        """Add the state of the frame that was tracked last, and replace an earlier state of the frame."""
        self._recent.pop(frame_index, None)
        self._recent[frame_index] = state

    def release(self, frame_index: int, state: FrameState) -> None:
        """Add the state of an older frame: to the archive if the session has one, else among those in memory.

        A session without an archive tracks forward only, so its frames are in memory in their order.
        """
        if self._archive is not None:
            self._archive.put(self._obj_id, frame_index, state)
            self._released.add(frame_index)
            return
        later = {i: self._recent.pop(i) for i in list(self._recent) if i > frame_index}
        self._recent[frame_index] = state
        self._recent |= later

    def take_released(self) -> set[int]:
        """The frames whose states were added to the archive from elsewhere since the last call."""
        released, self._released = self._released, set()
        return released

    def set_memory(self, frame_index: int, memory_features: Tensor) -> None:
        """Add the memory of a frame whose state is in memory."""
        self._recent[frame_index] = replace(self._recent[frame_index], memory_features=memory_features)

    def spill(self) -> None:
        """Move the oldest states out of memory until the most recent and the best of the others remain."""
        for index in self._surplus():
            if self._archive is not None:
                self._archive.put(self._obj_id, index, self._recent[index])
            del self._recent[index]

    def offload(self) -> None:
        """Move all states to the archive; they are read from there when they are needed again.

        States that the archive does not take stay in memory, all of them if the session has no archive.
        """
        if self._archive is None:
            return
        for index, state in list(self._recent.items()):
            if self._archive.put(self._obj_id, index, state):
                del self._recent[index]

    def newest_archived(self) -> dict[int, FrameState]:
        """The newest archived states, as many as memory has room for: those that were offloaded."""
        if self._archive is None or not (room := max(self._max_recent - len(self._recent), 0)):
            return {}
        states = {i: self._archive.get(self._obj_id, i) for i in self.archived_frames()[-room:]}
        return {i: state for i, state in states.items() if state is not None}

    def before(self, frame_index: int, *, step: int, count: int) -> list[int]:
        """The good frames before a frame, the nearest first, at most ``count``; frame 0 does not count.

        Frames are good if their quality is above the minimum.  ``step`` is the direction of tracking.
        """
        assert self._min_quality is not None
        good = self._good_in_memory(frame_index, step)
        if self._archive is not None:  # it may have nearer frames than memory
            first, last = (1, frame_index - 1) if step > 0 else (frame_index + 1, 2**62)
            good |= set(
                self._archive.good_frames(
                    self._obj_id,
                    first,
                    last,
                    min_quality=self._min_quality,
                    count=count + len(self._recent),
                    descending=step > 0,
                )
            ) - set(self._recent)
        return sorted(good, reverse=step > 0)[:count]

    def _good_in_memory(self, frame_index: int, step: int) -> set[int]:
        assert self._min_quality is not None
        return {
            i
            for i, state in self._recent.items()
            if i > 0 and (frame_index - i) * step > 0 and state.held.quality > self._min_quality
        }

    def _surplus(self) -> list[int]:
        """The states in memory that need not be there, in the order in which they were tracked."""
        old = list(self._recent)[: -self._max_recent]
        if self._min_quality is None or not old:
            return old
        indices = list(self._recent)
        good = [i for i in indices if self._recent[i].held.quality > self._min_quality]
        kept = set(good[-SELECTED_GOOD_FRAMES:])
        return [i for i in old if i not in kept]

    def clear_memories(self, first: int, last: int) -> None:
        """Clear pointers and memories on a range of frames.

        The masks are kept, because corrections start from them.
        """
        for index, state in self._recent.items():
            if first <= index <= last:
                self._recent[index] = replace(state, object_pointer=None, memory_features=None)
        if self._archive is not None:
            self._archive.clear_memories(self._obj_id, first, last)
        self._touched.update(range(first, last + 1))

    def discard(self, frame_index: int) -> None:
        """Delete the state of a frame."""
        self._recent.pop(frame_index, None)
        if self._archive is not None:
            self._archive.delete(self._obj_id, frame_index)
        self._touched.add(frame_index)

    def oldest(self) -> int | None:
        """The lowest index that is held."""
        archived = None if self._archive is None else self._archive.oldest(self._obj_id)
        return min((i for i in (archived, *self._recent) if i is not None), default=None)
