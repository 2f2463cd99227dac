"""What one object remembers, and which of it counts on a given frame: choosing, not computing.

Source of the rules: Ravi et al., "SAM 2" (2024), and its reference implementation; where they differ from
it, DESIGN.md says so.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from tracker_svc.memory.archive import SessionArchive
from tracker_svc.memory.frame_state import FrameState
from tracker_svc.memory.tracked_frames import TrackedFrames
from tracker_svc.model.tracking_model import MEMORY_SLOTS

# A frame sees the memories of this many frames just before it, and the pointers of as many as these.
RECENT_MEMORIES = MEMORY_SLOTS - 1
RECENT_POINTERS = 15

# A prompt makes what was believed around it doubtful: memories this close to it are cleared.
CLEARED_AROUND_PROMPT = 7

# What is held in memory at least: nothing older can count while tracking goes on.
MIN_RECENT_FRAMES = RECENT_POINTERS + 1


class SelectedMemory(NamedTuple):
    """A frame whose memory counts, and the temporal embedding it takes."""

    frame_index: int
    slot: int


class SelectedPointer(NamedTuple):
    """A frame whose pointer counts, and how far it lies before the current one in tracking direction."""

    frame_index: int
    frames_before: int


class Selection(NamedTuple):
    """What counts on one frame."""

    memories: list[SelectedMemory]
    pointers: list[SelectedPointer]

    @property
    def signature(self) -> tuple[int, int]:
        """Objects of equal signature fit into one batch."""
        return len(self.memories), len(self.pointers)


class Run(NamedTuple):
    """Frames in a row, both ends included, and whether they were visited in reverse."""

    first: int
    last: int
    reverse: bool


class VisitedFrames:
    """Which frames an object was on when it was tracked, and in which direction the last time.

    Kept as runs, so that it takes no more room for a long video than for a short one.
    """

    def __init__(self, runs: Sequence[Run] = ()) -> None:
        self._runs = list(runs)

    @property
    def runs(self) -> Sequence[Run]:
        """The runs, the newest last."""
        return self._runs

    def add(self, frame_index: int, *, reverse: bool) -> None:
        """Take in a frame."""
        if self.direction(frame_index) is reverse:
            return
        if self._runs:
            first, last, was_reverse = self._runs[-1]
            if was_reverse is reverse and first - 1 <= frame_index <= last + 1:
                self._runs[-1] = Run(min(first, frame_index), max(last, frame_index), reverse)
                return
        self._runs.append(Run(frame_index, frame_index, reverse))

    def discard(self, frame_index: int) -> None:
        """As if a frame had never been visited."""
        split: list[Run] = []
        for first, last, reverse in self._runs:
            pieces = ((first, min(last, frame_index - 1)), (max(first, frame_index + 1), last))
            if first <= frame_index <= last:
                split += [Run(start, end, reverse) for start, end in pieces if start <= end]
            else:
                split.append(Run(first, last, reverse))
        self._runs = split

    def direction(self, frame_index: int) -> bool | None:
        """Whether a frame was visited in reverse, None if it was not visited."""
        for first, last, reverse in reversed(self._runs):
            if first <= frame_index <= last:
                return reverse
        return None

    def __contains__(self, frame_index: int) -> bool:
        return self.direction(frame_index) is not None


class MemoryBank:
    """Frames of one object.

    ``prompted`` are frames whose prompts are not memorized yet; they count in no selection, but what an
    earlier prompt or tracking left there does until then.  ``conditioning`` are prompted frames that are
    memorized; they stay for as long as the object.  ``tracked`` are all others.  A frame is never in both
    ``conditioning`` and ``tracked``.
    """

    def __init__(
        self,
        obj_id: int = 0,
        archive: SessionArchive | None = None,
        *,
        max_recent: int = MIN_RECENT_FRAMES,
    ) -> None:
        self.prompted: dict[int, FrameState] = {}
        self.conditioning: dict[int, FrameState] = {}
        self.tracked = TrackedFrames(obj_id, archive, max_recent=max_recent)
        self.visited = VisitedFrames()

    def current(self, frame_index: int) -> FrameState | None:
        """The latest that is known of the object on a frame."""
        for states in (self.prompted, self.conditioning):
            if frame_index in states:
                return states[frame_index]
        return self.tracked.get(frame_index)

    def is_forgotten(self, frame_index: int) -> bool:
        """Whether the object was tracked on a frame of which nothing is held any more."""
        return (
            frame_index in self.visited
            and frame_index not in self.prompted
            and frame_index not in self.conditioning
            and frame_index not in self.tracked
        )

    def select(self, frame_index: int, *, reverse: bool = False) -> Selection:
        """What counts on ``frame_index`` when tracking forward, or in reverse.

        Memories: of every conditioning frame, later ones too, and of the 6 frames just before that are
        not conditioning; a gap stays empty.  Pointers: of conditioning frames that are not later, and of
        other frames up to 15 back.  The farthest first, as the original has it.
        """
        step = -1 if reverse else 1
        memories = [SelectedMemory(i, MEMORY_SLOTS - 1) for i in self.conditioning]
        pointers = [
            SelectedPointer(i, (frame_index - i) * step)
            for i in self.conditioning
            if (frame_index - i) * step >= 0
        ]
        farthest, nearest = frame_index - RECENT_POINTERS * step, frame_index - step
        held = self.tracked.held(min(farthest, nearest), max(farthest, nearest))
        for distance in range(RECENT_MEMORIES, 0, -1):
            index = frame_index - distance * step
            if index in held and held[index].memory:
                memories.append(SelectedMemory(index, distance - 1))
        for distance in range(RECENT_POINTERS, 0, -1):
            index = frame_index - distance * step
            if index in held and held[index].pointer:
                pointers.append(SelectedPointer(index, distance))
        return Selection(memories, pointers)

    def memory_features(self, frame_index: int) -> Tensor:
        """The memory of a frame that was selected."""
        state = self.conditioning.get(frame_index) or self.tracked.get(frame_index)
        assert state is not None, "only frames that are held are selected"
        assert state.memory_features is not None, "only frames with a memory are selected"
        return state.memory_features

    def object_pointer(self, frame_index: int) -> Tensor:
        """The pointer of a frame that was selected."""
        state = self.conditioning.get(frame_index)
        pointer = self.tracked.pointer(frame_index) if state is None else state.object_pointer
        assert pointer is not None, "only frames with a pointer are selected"
        return pointer

    def prompt(self, frame_index: int, state: FrameState) -> None:
        """Take in the outcome of a prompt; it is memorized later."""
        self.prompted[frame_index] = state

    def memorize(self, frame_index: int, memory_features: Tensor) -> None:
        """Make a prompted frame a conditioning frame, and clear what was remembered around it."""
        state = self.prompted.pop(frame_index)
        self.conditioning[frame_index] = replace(state, memory_features=memory_features)
        self.tracked.discard(frame_index)
        self._clear_around(frame_index)

    def remove_prompt(self, frame_index: int) -> None:
        """Forget what prompts left on a frame.

        Where they were not memorized yet, what tracking left there counts again.  Where they were, the
        object is as if it had never been on that frame, and what was remembered around it is as doubtful
        as after a new prompt.
        """
        self.prompted.pop(frame_index, None)
        if self.conditioning.pop(frame_index, None) is not None:
            self.visited.discard(frame_index)
            self._clear_around(frame_index)

    def track(self, frame_index: int, state: FrameState) -> None:
        """Take in a tracked frame."""
        self.tracked.put(frame_index, state)

    def remember(self, frame_index: int, memory_features: Tensor) -> None:
        """Add the memory of a frame that was tracked just now."""
        self.tracked.set_memory(frame_index, memory_features)

    def _clear_around(self, frame_index: int) -> None:
        self.tracked.clear_memories(frame_index - CLEARED_AROUND_PROMPT, frame_index + CLEARED_AROUND_PROMPT)
