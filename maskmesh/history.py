"""The history of a session: its prompts and tracked frames in order, from which it can be replayed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeAlias

from maskmesh.concepts import SessionConcept
from maskmesh.types import ModelInfo, Prompt


@dataclass(frozen=True, slots=True)
class PromptRecord:
    """One prompt as the client sent it, without the content of earlier prompts."""

    frame_index: int
    obj_id: int
    prompt: Prompt
    clear_previous: bool = False


@dataclass(frozen=True, slots=True)
class ClearRecord:
    """One removal of the prompts of an object on a frame."""

    frame_index: int
    obj_id: int


@dataclass(frozen=True, slots=True)
class RemovalRecord:
    """The removal of an object that a concept had found; None if that concept was removed before."""

    obj_id: int
    concept_id: int | None = None


@dataclass(frozen=True, slots=True)
class ConceptRemovalRecord:
    """One concept that was removed, while its objects stayed."""

    concept_id: int


@dataclass(frozen=True, slots=True)
class FrameRange:
    """Frames that were tracked, from ``first_frame_index`` to ``last_frame_index``, both included."""

    first_frame_index: int
    last_frame_index: int
    """The lower index if ``reverse``."""
    reverse: bool = False

    def followed_by(self, frame_index: int, *, reverse: bool) -> bool:
        """Whether a frame directly follows the range in the same direction."""
        step = -1 if reverse else 1
        return self.reverse is reverse and frame_index == self.last_frame_index + step

    @property
    def num_frames(self) -> int:
        """Number of frames in the range."""
        return abs(self.last_frame_index - self.first_frame_index) + 1


ObjectRecord: TypeAlias = PromptRecord | ClearRecord | RemovalRecord
"""An operation on one object."""

HistoryEntry: TypeAlias = ObjectRecord | SessionConcept | ConceptRemovalRecord | FrameRange
"""An operation on a session; ``SessionConcept`` is the addition of a concept."""


@dataclass(frozen=True, slots=True)
class SessionObject:
    """One object of a session, and the frames on which it is prompted."""

    obj_id: int
    prompted_frames: Sequence[int]
    concept_id: int | None = None
    """The concept that found the object; None for other objects."""
    is_found: bool = False
    """Whether a concept found it, also if that concept was removed since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionState:
    """The state of a session, as GetSession returns it."""

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
    """The history in order, without the entries of removed objects that do not affect others."""
    concepts: Sequence[SessionConcept] = ()
    """In the order in which they were added."""


def add_tracked(entries: list[HistoryEntry], frame_index: int, *, reverse: bool) -> None:
    """Add a tracked frame to a history: extend the last range, or append a new one."""
    last = entries[-1] if entries else None
    if isinstance(last, FrameRange) and last.followed_by(frame_index, reverse=reverse):
        entries[-1] = replace(last, last_frame_index=frame_index)
    else:
        entries.append(FrameRange(frame_index, frame_index, reverse))
