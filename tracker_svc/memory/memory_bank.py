"""The memory bank of one object, and the selection of the memories that condition a frame.

Source of the rules: Ravi et al., "SAM 2" (2024), and its reference implementation; DESIGN.md lists the
differences.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from tracker_svc.memory.archive import SessionArchive
from tracker_svc.memory.frame_state import FrameState, Held
from tracker_svc.memory.tracked_frames import SELECTED_GOOD_FRAMES, TrackedFrames
from tracker_svc.model.config import MemoryRules
from tracker_svc.model.tracking_model import MEMORY_SLOTS

# Numbers of preceding frames whose memories and whose object pointers condition a frame.
RECENT_MEMORIES = MEMORY_SLOTS - 1
RECENT_POINTERS = 15

# A prompt invalidates tracking results around it: memories within this many frames are cleared.
CLEARED_AROUND_PROMPT = 7

# Minimum number of tracked frames in memory; tracking does not select older frames.
MIN_RECENT_FRAMES = RECENT_POINTERS + 1


class SelectedMemory(NamedTuple):
    """A frame whose memory is selected, and the index of its temporal embedding."""

    frame_index: int
    slot: int


class SelectedPointer(NamedTuple):
    """A frame whose pointer is selected, and its distance to the current frame in tracking direction."""

    frame_index: int
    frames_before: int


class Selection(NamedTuple):
    """The memories and pointers that condition one frame."""

    memories: list[SelectedMemory]
    pointers: list[SelectedPointer]

    @property
    def signature(self) -> tuple[int, int]:
        """Objects with equal signatures fit into one batch."""
        return len(self.memories), len(self.pointers)


class Run(NamedTuple):
    """Consecutive frames, both ends included, and whether they were visited in reverse."""

    first: int
    last: int
    reverse: bool


class VisitedFrames:
    """The frames on which an object was tracked, and the direction in which each was tracked last.

    Stored as runs, so that its size does not grow with the length of the video.
    """

    def __init__(self, runs: Sequence[Run] = ()) -> None:
        self._runs = list(runs)

    @property
    def runs(self) -> Sequence[Run]:
        """The runs, the newest last."""
        return self._runs

    def add(self, frame_index: int, *, reverse: bool) -> None:
        """Add a frame."""
        if self.direction(frame_index) is reverse:
            return
        if self._runs:
            first, last, was_reverse = self._runs[-1]
            if was_reverse is reverse and first - 1 <= frame_index <= last + 1:
                self._runs[-1] = Run(min(first, frame_index), max(last, frame_index), reverse)
                return
        self._runs.append(Run(frame_index, frame_index, reverse))

    def discard(self, frame_index: int) -> None:
        """Remove a frame."""
        runs: list[Run] = []
        for first, last, reverse in self._runs:
            pieces = ((first, min(last, frame_index - 1)), (max(first, frame_index + 1), last))
            if first <= frame_index <= last:
                runs += [Run(start, end, reverse) for start, end in pieces if start <= end]
            else:
                runs.append(Run(first, last, reverse))
        self._runs = runs

    def direction(self, frame_index: int) -> bool | None:
        """Whether a frame was visited in reverse, None if it was not visited."""
        for first, last, reverse in reversed(self._runs):
            if first <= frame_index <= last:
                return reverse
        return None

    def __contains__(self, frame_index: int) -> bool:
        return self.direction(frame_index) is not None


class MemoryBank:
    """The states of one object by frame.

    ``prompted`` frames have prompts that are not memorized yet.  They are not selected; until they are
    memorized, an earlier state of the same frame is selected.  ``conditioning`` frames are memorized
    prompted frames, and in ``detected`` those that a detection made; they are kept until their prompts are
    removed.  ``tracked`` frames are all other
    frames.  A frame is never both ``conditioning`` and ``tracked``.
    """

    def __init__(
        self,
        obj_id: int = 0,
        archive: SessionArchive | None = None,
        *,
        max_recent: int = MIN_RECENT_FRAMES,
        rules: MemoryRules | None = None,
    ) -> None:
        self.rules = rules or MemoryRules()
        self.prompted: dict[int, FrameState] = {}
        self.conditioning: dict[int, FrameState] = {}
        self.detected: set[int] = set()
        self.tracked = TrackedFrames(
            obj_id, archive, max_recent=max_recent, min_quality=self.rules.min_quality
        )
        self.visited = VisitedFrames()

    def current(self, frame_index: int) -> FrameState | None:
        """The object's latest state on a frame, None if it has none."""
        for states in (self.prompted, self.conditioning):
            if frame_index in states:
                return states[frame_index]
        return self.tracked.get(frame_index)

    def is_forgotten(self, frame_index: int) -> bool:
        """Whether the object was tracked on a frame whose state is no longer held."""
        return (
            frame_index in self.visited
            and frame_index not in self.prompted
            and frame_index not in self.conditioning
            and frame_index not in self.tracked
        )

    def select(self, frame_index: int, *, reverse: bool = False) -> Selection:
        """Select the memories and pointers that condition ``frame_index`` when tracking forward or in
        reverse.

        Memories: the conditioning frames, also later ones, and 6 preceding frames that are not among them; a
        preceding frame without a memory is not replaced by an older one.  Pointers: conditioning frames that
        are not later, and 15 preceding frames that are not among them.  The farthest frame comes first, as in
        the reference implementation.  :class:`MemoryRules` has the options.
        """
        step = -1 if reverse else 1
        attended = self._attended_conditioning(frame_index, step)
        memories = [SelectedMemory(i, MEMORY_SLOTS - 1) for i in attended]
        pointers = [
            SelectedPointer(i, (frame_index - i) * step) for i in attended if (frame_index - i) * step >= 0
        ]
        preceding = self._preceding(frame_index, step)
        # Selected by quality, the oldest frame gives no pointer, as in the reference implementation.
        num_pointers = RECENT_POINTERS if self.rules.min_quality is None else len(preceding) - 1
        held = self._held(preceding, attended)
        for rank in range(min(self.rules.recent_memories, len(preceding)), 0, -1):
            index = preceding[rank - 1]
            if index in held and held[index].memory:
                memories.append(SelectedMemory(index, rank - 1))
        for rank in range(min(num_pointers, len(preceding)), 0, -1):
            index = preceding[rank - 1]
            if index in held and held[index].pointer:
                pointers.append(SelectedPointer(index, rank))
        return Selection(memories, pointers)

    def memory_features(self, frame_index: int) -> Tensor:
        """Returns the memory of a selected frame."""
        state = self.conditioning.get(frame_index) or self.tracked.get(frame_index)
        assert state is not None, "only frames that are held are selected"
        assert state.memory_features is not None, "only frames with a memory are selected"
        return state.memory_features

    def object_pointer(self, frame_index: int) -> Tensor:
        """Returns the object pointer of a selected frame."""
        state = self.conditioning.get(frame_index)
        pointer = self.tracked.pointer(frame_index) if state is None else state.object_pointer
        assert pointer is not None, "only frames with a pointer are selected"
        return pointer

    def prompt(self, frame_index: int, state: FrameState) -> None:
        """Add the state that results from a prompt; it is memorized later."""
        self.prompted[frame_index] = state

    def make_conditioning(self, frame_index: int, memory_features: Tensor) -> None:
        """Make a prompted frame a conditioning frame, and clear the memories around it."""
        state = self.prompted.pop(frame_index)
        self.conditioning[frame_index] = replace(state, memory_features=memory_features)
        self.detected.discard(frame_index)
        self.tracked.discard(frame_index)
        self._clear_around(frame_index)

    def condition(self, frame_index: int, state: FrameState) -> None:
        """Make a frame a conditioning frame without a prompt: a detection has found the object there.

        The memories around it stay, because the detection agrees with them.
        """
        self.conditioning[frame_index] = state
        self.detected.add(frame_index)
        self.tracked.discard(frame_index)

    def release_detected(self, frame_index: int, *, kept: int | None) -> None:
        """Turn conditioning frames of detections into tracked frames if tracking at ``frame_index`` no longer
        reads them, except ``kept``; there may be any number of them.
        """
        limit = self.rules.max_conditioning
        if limit is None:
            return
        nearest = sorted(self.conditioning, key=lambda index: abs(index - frame_index))
        self._release(i for i in nearest[limit:] if abs(i - frame_index) > RECENT_POINTERS and i != kept)

    def release_corrected(self, *, kept: int | None) -> None:
        """Turn all conditioning frames of detections into tracked frames, except ``kept``, because a prompt
        corrects the object: what was detected along a wrong track must not hold.
        """
        self._release(index for index in list(self.conditioning) if index != kept)

    def _release(self, frames: Iterable[int]) -> None:
        for index in [i for i in frames if i in self.detected]:
            self.detected.discard(index)
            self.tracked.release(index, self.conditioning.pop(index))

    def is_conditioned_without(self, frame_index: int) -> bool:
        """Whether a conditioning frame remains, or becomes one, if the prompts of a frame are removed."""
        frames = {*self.conditioning, *self.prompted} - {frame_index}
        return bool(frames) or frame_index in self.detected

    def remove_prompt(self, frame_index: int) -> None:
        """Remove the prompts of a frame.

        If they were not memorized, the frame's earlier state is valid again, if that is tracked or detected.
        If they were, the object has no state on the frame any more, and the memories around it are cleared
        as after a new prompt.
        """
        self.prompted.pop(frame_index, None)
        if frame_index not in self.detected and self.conditioning.pop(frame_index, None) is not None:
            self.visited.discard(frame_index)
            self._clear_around(frame_index)

    def track(self, frame_index: int, state: FrameState) -> None:
        """Add a tracked frame."""
        self.tracked.put(frame_index, state)

    def set_memory(self, frame_index: int, memory_features: Tensor) -> None:
        """Add the memory of a frame that was tracked just now."""
        self.tracked.set_memory(frame_index, memory_features)

    def _attended_conditioning(self, frame_index: int, step: int) -> list[int]:
        """The conditioning frames that a frame attends to: the nearest before it, the nearest after it or on
        it, then the others by their distance.
        """
        limit = self.rules.max_conditioning
        if limit is None or len(self.conditioning) <= limit:
            return list(self.conditioning)
        before = [i for i in self.conditioning if i < frame_index]
        after = [i for i in self.conditioning if i >= frame_index]
        chosen = ([max(before)] if before else []) + ([min(after)] if after else [])
        others = sorted((i for i in self.conditioning if i not in chosen), key=lambda i: abs(i - frame_index))
        chosen += others[: limit - len(chosen)]
        return [i for i in self.conditioning if i in chosen]

    def _preceding(self, frame_index: int, step: int) -> list[int]:
        """The frames before a frame whose memories and pointers may be selected, the nearest first."""
        if self.rules.min_quality is None:
            return [frame_index - distance * step for distance in range(1, RECENT_POINTERS + 1)]
        good = self.tracked.before(frame_index, step=step, count=SELECTED_GOOD_FRAMES)
        nearest = frame_index - step
        return good if nearest in good else [nearest, *good]

    def _held(self, preceding: Sequence[int], attended: Sequence[int]) -> dict[int, Held]:
        """Which parts of the states on these frames are held; conditioning frames beyond the attended ones
        count as tracked.
        """
        held = self.tracked.held(preceding)
        return held | {
            i: self.conditioning[i].held for i in preceding if i in self.conditioning and i not in attended
        }

    def _clear_around(self, frame_index: int) -> None:
        self.tracked.clear_memories(frame_index - CLEARED_AROUND_PROMPT, frame_index + CLEARED_AROUND_PROMPT)
