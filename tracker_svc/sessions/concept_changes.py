"""Changes of the concepts of a session, and of the objects that they find."""

from collections.abc import Sequence

from maskmesh.history import ConceptRemovalRecord
from tracker_svc.following.followed_concept import FollowedConcept
from tracker_svc.following.following_step import Following
from tracker_svc.sessions.session import Session


def add_concept(session: Session, concept: FollowedConcept, following: Following | None) -> None:
    """Add a concept with the objects that it found on a frame, None if it was not searched; cannot fail."""
    session.concepts.add(concept)
    session.history.add(concept.added)
    if following is not None:
        finish_following(session, following)
    session.revision += 1


def remove_concept(session: Session, concept_id: int, *, keep_objects: bool) -> None:
    """Remove a concept, and its objects unless they are kept.

    Raises ConceptNotFound, and ResourceExhausted if the history is full.
    """
    session.concepts.find(concept_id)
    objects = [obj for obj in session.objects.values() if obj.concept_id == concept_id]
    if keep_objects:
        session.history.check_room()
        session.history.add(ConceptRemovalRecord(concept_id))
    else:
        session.history.remove_concept(concept_id, [obj.obj_id for obj in objects])
    del session.concepts.by_id[concept_id]
    for obj in objects:
        obj.concept_id = None
        if not keep_objects or obj.is_dismissed:
            session.drop_object(obj.obj_id)
    session.revision += 1


def begin_following(session: Session, concepts: Sequence[FollowedConcept]) -> Following | None:
    """What a step on a frame reads of concepts; None without concepts."""
    if not concepts:
        return None
    limit = session.limits.max_objects
    return Following(
        concepts=concepts,
        # Objects that the client removed are bounded apart.
        room=min(limit - len(session.obj_ids), 2 * limit - len(session.objects)),
        make=session.make,
    )


def finish_following(session: Session, following: Following) -> None:
    """Put what a step decided into effect, once its frame is memorized; cannot fail."""
    for concept in following.concepts:
        decision = following.decisions[concept.concept_id]
        concept.life = decision.life
        concept.next_id = max((concept.next_id, *(obj_id + 1 for obj_id in decision.new)))
        for obj_id, score in decision.scores.items():
            if obj_id in session.objects:
                session.objects[obj_id].concept_score = score
    for obj_id in following.gone:
        session.drop_object(obj_id)
    for obj in following.found:
        session.objects[obj.obj_id] = obj
