"""What was said and done in a session, in the order in which it was: enough to do it again elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from maskmesh.types import ModelInfo, Prompt


@dataclass(frozen=True, slots=True)
class PromptRecord:
    """One prompt as it was said, without what earlier ones had said."""

    frame_index: int
    obj_id: int
    prompt: Prompt
    clear_previous: bool = False


@dataclass(frozen=True, slots=True)
class ClearRecord:
    """One clearing of the prompts of an object on a frame."""

    frame_index: int
    obj_id: int


@dataclass(frozen=True, slots=True)
class FrameRange:
    """Frames that were tracked, from ``first_frame_index`` to ``last_frame_index``, both included."""

    first_frame_index: int
    last_frame_index: int
    """In reverse the lower one."""
    reverse: bool = False

    def followed_by(self, frame_index: int, *, reverse: bool) -> bool:
        """Whether a frame goes on where the range ends."""
        step = -1 if reverse else 1
        return self.reverse is reverse and frame_index == self.last_frame_index + step

    @property
    def num_frames(self) -> int:
        """How many frames there are."""
        return abs(self.last_frame_index - self.first_frame_index) + 1


HistoryEntry: TypeAlias = PromptRecord | ClearRecord | FrameRange


@dataclass(frozen=True, slots=True)
class SessionObject:
    """One object of a session, and the frames with prompts that count now."""

    obj_id: int
    prompted_frames: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionState:
    """What a session holds."""

    session_id: str
    ttl: timedelta
    model: ModelInfo
    num_frames: int
    width: int
    height: int
    frames_per_second: float
    revision: int
    """Counts the changes of objects and prompts."""
    objects: Sequence[SessionObject]
    """In the order in which they were added."""
    history: Sequence[HistoryEntry]
    """All that was done about these objects, in order; nothing of objects that were removed."""
