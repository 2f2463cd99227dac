"""What one object remembers, and which of it counts on a given frame: choosing, not computing.

Source of the rules: Ravi et al., "SAM 2" (2024), and its reference implementation; where they differ from
it, DESIGN.md says so.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from torch import Tensor

from tracker_svc.model.tracking_model import MEMORY_SLOTS

# A frame sees the memories of this many frames just before it, and the pointers of as many as these.
RECENT_MEMORIES = MEMORY_SLOTS - 1
RECENT_POINTERS = 15

# A prompt makes what was believed around it doubtful: memories this close to it are cleared.
CLEARED_AROUND_PROMPT = 7

# What is always held, whatever the budget: nothing older can count while tracking goes on.
MIN_TRACKED_FRAMES = RECENT_POINTERS + 1


@dataclass(frozen=True, slots=True, eq=False)
class FrameState:
    """One object on one frame.  Pointer and memory are None where they were cleared or not made yet."""

    low_res_masks: Tensor  # [1, S / 4, S / 4] logits, float32
    predicted_iou: float
    object_score_logit: float
    object_pointer: Tensor | None  # [C]
    memory_features: Tensor | None = None  # [memory_dim, E, E], bfloat16

    @property
    def num_bytes(self) -> int:
        """Size of the tensors."""
        tensors = (self.low_res_masks, self.object_pointer, self.memory_features)
        return sum(t.nbytes for t in tensors if t is not None)


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


class VisitedFrames:
    """Which frames an object was on when it was tracked, and in which direction the last time.

    Kept as runs, so that it takes no more room for a long video than for a short one.
    """

    def __init__(self) -> None:
        self._runs: list[tuple[int, int, bool]] = []  # first, last, whether in reverse

    def add(self, frame_index: int, *, reverse: bool) -> None:
        """Take in a frame."""
        if self.direction(frame_index) is reverse:
            return
        if self._runs:
            first, last, was_reverse = self._runs[-1]
            if was_reverse is reverse and first - 1 <= frame_index <= last + 1:
                self._runs[-1] = (min(first, frame_index), max(last, frame_index), reverse)
                return
        self._runs.append((frame_index, frame_index, reverse))

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
    memorized; they stay for as long as the object.  ``tracked`` are all others, the oldest dropped as the
    budget asks.  A frame is never in both ``conditioning`` and ``tracked``.
    """

    def __init__(self) -> None:
        self.prompted: dict[int, FrameState] = {}
        self.conditioning: dict[int, FrameState] = {}
        self.tracked: dict[int, FrameState] = {}
        self.visited = VisitedFrames()

    def current(self, frame_index: int) -> FrameState | None:
        """The latest that is known of the object on a frame."""
        for states in (self.prompted, self.conditioning, self.tracked):
            if frame_index in states:
                return states[frame_index]
        return None

    def is_forgotten(self, frame_index: int) -> bool:
        """Whether the object was tracked on a frame of which nothing is held any more."""
        return frame_index in self.visited and self.current(frame_index) is None

    def oldest_tracked(self) -> int | None:
        """The lowest index of the tracked frames that are still held."""
        return min(self.tracked, default=None)

    def select(self, frame_index: int, *, reverse: bool = False) -> Selection:
        """What counts on ``frame_index`` when tracking forward, or in reverse.

        Memories: of every conditioning frame, later ones too, and of the 6 frames just before that are
        not conditioning; a gap stays empty.  Pointers: of conditioning frames that are not later, and of
        other frames up to 15 back.
        """
        step = -1 if reverse else 1
        memories = [SelectedMemory(i, MEMORY_SLOTS - 1) for i in self.conditioning]
        pointers = [
            SelectedPointer(i, (frame_index - i) * step)
            for i in self.conditioning
            if (frame_index - i) * step >= 0
        ]
        for index, distance in self._before(frame_index, RECENT_MEMORIES, step):
            if self.tracked[index].memory_features is not None:
                memories.append(SelectedMemory(index, distance - 1))
        for index, distance in self._before(frame_index, RECENT_POINTERS, step):
            if self.tracked[index].object_pointer is not None:
                pointers.append(SelectedPointer(index, distance))
        return Selection(memories, pointers)

    def prompt(self, frame_index: int, state: FrameState) -> None:
        """Take in the outcome of a prompt; it is memorized later."""
        self.prompted[frame_index] = state

    def memorize(self, frame_index: int, memory_features: Tensor) -> None:
        """Make a prompted frame a conditioning frame, and clear what was remembered around it."""
        state = self.prompted.pop(frame_index)
        self.conditioning[frame_index] = replace(state, memory_features=memory_features)
        self.tracked.pop(frame_index, None)
        for index, old in self.tracked.items():
            if abs(index - frame_index) <= CLEARED_AROUND_PROMPT:
                # The logits stay: a later correction there still starts from them.
                self.tracked[index] = replace(old, object_pointer=None, memory_features=None)

    def track(self, frame_index: int, state: FrameState, *, max_frames: int) -> None:
        """Take in a tracked frame, and drop those that were tracked longest ago beyond ``max_frames``."""
        self.tracked.pop(frame_index, None)
        self.tracked[frame_index] = state
        while len(self.tracked) > max(max_frames, MIN_TRACKED_FRAMES):
            del self.tracked[next(iter(self.tracked))]

    def remember(self, frame_index: int, memory_features: Tensor) -> None:
        """Add the memory of a frame that was tracked just now."""
        self.tracked[frame_index] = replace(self.tracked[frame_index], memory_features=memory_features)

    def _before(self, frame_index: int, count: int, step: int) -> Iterator[tuple[int, int]]:
        """Tracked frames up to ``count`` before, and how far; the farthest first, as the original has it."""
        for distance in range(count, 0, -1):
            if frame_index - distance * step in self.tracked:
                yield frame_index - distance * step, distance
