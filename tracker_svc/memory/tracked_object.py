"""A tracked object: its identity, its prompts and its memory bank."""

from dataclasses import dataclass, field, replace

from maskmesh.types import Prompt
from tracker_svc.memory.frame_state import FrameState
from tracker_svc.memory.memory_bank import MemoryBank


@dataclass(slots=True)
class TrackedObject:
    """One object.

    The client chooses ``obj_id``, or the session does for an object that a concept found.  It is not the
    object's row in a batch, which differs between batches.
    """

    obj_id: int
    bank: MemoryBank = field(default_factory=MemoryBank)
    prompts: dict[int, Prompt] = field(default_factory=dict)
    """The combined prompt on each prompted frame, by frame index."""
    found_frame: int | None = None
    """The frame on which a concept found it."""
    concept_id: int | None = None
    """The concept that found it, while the session has that concept."""
    concept_score: float = 0.0
    """The score of its latest detection."""
    is_dismissed: bool = False
    """Whether the client removed it; it is followed, so that its concept does not find it again."""

    @property
    def is_found(self) -> bool:
        """Whether a concept found it."""
        return self.found_frame is not None

    def scored(self, state: FrameState) -> FrameState:
        """A state with the score of the object."""
        return state if self.concept_id is None else replace(state, concept_score=self.concept_score)
