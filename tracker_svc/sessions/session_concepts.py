"""The concepts of one session, and the numbers of the objects that they find."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from maskmesh.concepts import FIRST_OBJ_ID, MAX_FIRST_OBJ_IDS, OBJ_IDS_PER_CONCEPT
from maskmesh.errors import ConceptNotFound, InvalidRequest, ResourceExhausted
from tracker_svc.following.followed_concept import FollowedConcept

MAX_SESSION_CONCEPTS = 32


@dataclass(slots=True)
class SessionConcepts:
    """The concepts by ``concept_id``, in the order in which they were added."""

    session_id: str
    by_id: dict[int, FollowedConcept] = field(default_factory=dict)
    next_block: int = 0
    """The block of numbers after those that concepts have had."""

    @property
    def has_any(self) -> bool:
        """Whether the session has or had concepts."""
        return bool(self.by_id) or self.next_block > 0

    @property
    def searching(self) -> list[FollowedConcept]:
        """Those that find objects on every frame."""
        return [concept for concept in self.by_id.values() if concept.searches]

    def check_new(self, concept_id: int) -> None:
        """Raises InvalidRequest if a concept has the number, ResourceExhausted if there are too many."""
        if concept_id in self.by_id:
            raise InvalidRequest(f"the session has a concept {concept_id} already", field="concept_id")
        if len(self.by_id) >= MAX_SESSION_CONCEPTS:
            raise ResourceExhausted("the session has the maximum number of concepts", resource="concepts")

    def find(self, concept_id: int) -> FollowedConcept:
        """Returns a concept.  Raises ConceptNotFound."""
        if concept_id not in self.by_id:
            raise ConceptNotFound(
                f"the session has no concept {concept_id}", session_id=self.session_id, concept_id=concept_id
            )
        return self.by_id[concept_id]

    def first_obj_id(self, wanted: int, used: Iterable[int]) -> int:
        """The number of the first object of a new concept: ``wanted``, or if that is 0, one of a free block.

        ``used`` are the numbers of the session's objects.  Raises InvalidRequest if the block is not free.
        """
        taken = {_block(obj_id) for obj_id in used}
        taken |= {_block(concept.added.first_obj_id) for concept in self.by_id.values()}
        if wanted:
            if _block(wanted) in taken:
                raise InvalidRequest("the numbers from it on are in use", field="first_obj_id")
            return wanted
        # Numbers of concepts that were removed are given again only after all others.
        blocks = [*range(self.next_block, MAX_FIRST_OBJ_IDS), *range(self.next_block)]
        block: int = next(block for block in blocks if block not in taken)
        return FIRST_OBJ_ID + block * OBJ_IDS_PER_CONCEPT

    def add(self, concept: FollowedConcept) -> None:
        """Add a concept."""
        self.by_id[concept.concept_id] = concept
        self.next_block = max(self.next_block, _block(concept.added.first_obj_id) + 1)

    def clear(self) -> None:
        """Remove all concepts."""
        self.by_id.clear()
        self.next_block = 0

    def numbers(self, obj_id: int) -> bool:
        """Whether a number belongs to the block of a concept."""
        return any(_block(obj_id) == _block(c.added.first_obj_id) for c in self.by_id.values())

    def first_frames(self) -> Iterable[int]:
        """The frames from which on the concepts are followed."""
        return (concept.added.frame_index or 0 for concept in self.searching)

    def hotstart_delay(self) -> int:
        """The number of frames after which it is known which objects a frame shows."""
        return max((concept.rules.hotstart_delay for concept in self.searching), default=0)


def _block(obj_id: int) -> int:
    """The block of a number, negative for lower ones."""
    return (obj_id - FIRST_OBJ_ID) // OBJ_IDS_PER_CONCEPT
