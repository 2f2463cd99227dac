"""The concepts of one session on one frame."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tracker_svc.following.decision import Decision
from tracker_svc.following.followed_concept import FollowedConcept
from tracker_svc.memory.frame_state import FrameState
from tracker_svc.memory.tracked_object import TrackedObject


@dataclass(slots=True, kw_only=True)
class Following:
    """The concepts of one session on one frame: what a step reads, and what it decided."""

    concepts: Sequence[FollowedConcept]
    room: int
    """How many more objects the session may have."""
    make: Callable[[int], TrackedObject]
    """Makes an object by its number, without adding it to the session."""
    decisions: dict[int, Decision] = field(default_factory=dict)
    """By ``concept_id``."""
    found: list[TrackedObject] = field(default_factory=list)
    """The new objects."""
    found_states: dict[int, FrameState] = field(default_factory=dict)
    """Their states on the frame, without pointers and memories, by ``obj_id``."""

    def begin(self) -> None:
        """Forget what was decided: a step that has failed in a batch is computed again."""
        self.decisions.clear()
        self.found.clear()
        self.found_states.clear()

    @property
    def room_left(self) -> int:
        """How many more objects the session may have after the decisions so far."""
        return self.room + len(self.gone) - len(self.found)

    @property
    def gone(self) -> list[int]:
        """The objects that leave."""
        return [obj_id for decision in self.decisions.values() for obj_id in decision.gone]
