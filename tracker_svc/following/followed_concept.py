"""One concept of a session."""

from dataclasses import dataclass, field, replace

from maskmesh.concepts import Concept, ConceptOptions, SessionConcept
from tracker_svc.following.lifecycle import Lifecycle
from tracker_svc.following.rules import FollowingRules


@dataclass(slots=True)
class FollowedConcept:
    """A concept, how its objects are followed, and their counters."""

    added: SessionConcept
    rules: FollowingRules
    life: Lifecycle = field(default_factory=Lifecycle)
    next_id: int = 0
    """The number of its next object."""

    @classmethod
    def of(cls, added: SessionConcept) -> "FollowedConcept":
        """A concept without objects."""
        return cls(added, rules_of(added.options), next_id=added.first_obj_id)

    @property
    def concept_id(self) -> int:
        """The client's number of the concept."""
        return self.added.concept_id

    @property
    def searches(self) -> bool:
        """Whether it finds objects on every frame: boxes alone find objects on their own frame only."""
        return bool(self.added.concept.phrase)

    def is_due(self, frame_index: int) -> bool:
        """Whether a frame is searched."""
        every = self.added.options.detect_every
        return self.life.last_frame is None or frame_index % every == 0

    def concept_on(self, frame_index: int) -> Concept:
        """What to find on a frame: the boxes count on their own frame only."""
        concept = self.added.concept
        return concept if frame_index == self.added.frame_index else Concept(concept.phrase)


def rules_of(options: ConceptOptions) -> FollowingRules:
    """The rules with a concept's options.

    The counts of the hotstart keep their published proportion to the searched frames of its delay.
    """
    defaults = FollowingRules()
    delay = options.hotstart_delay or 0
    share = delay / defaults.hotstart_delay / options.detect_every
    return replace(
        defaults,
        detection_score=options.score_threshold,
        new_score=options.new_score_threshold,
        max_objects=options.max_objects or defaults.max_objects,
        hotstart_delay=delay,
        hotstart_unmatched=max(1, round(defaults.hotstart_unmatched * share)),
        hotstart_duplicate=max(1, round(defaults.hotstart_duplicate * share)),
    )
