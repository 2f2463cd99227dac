"""Lossless conversion of the concepts of a session to messages and back."""

from maskmesh import wire
from maskmesh.internal.v1 import snapshot_pb2
from tracker_svc.following.followed_concept import FollowedConcept
from tracker_svc.following.lifecycle import Lifecycle, ObjectLife


def concept_to_proto(concept: FollowedConcept) -> snapshot_pb2.ConceptSnapshot:
    """A concept and the counters of its objects."""
    life = concept.life
    message = snapshot_pb2.ConceptSnapshot(
        concept=wire.session_concept_to_proto(concept.added),
        last_frame=life.last_frame,
        next_obj_id=concept.next_id,
    )
    for obj_id, counters in life.lives.items():
        message.objects.add(
            obj_id=obj_id,
            first_frame=counters.first_frame,
            keep_alive=counters.keep_alive,
            unmatched=counters.unmatched,
            last_occluded=counters.last_occluded,
            reverse=counters.reverse,
            established=counters.is_established,
        )
    for (older, obj_id), frames in life.duplicates.items():
        message.duplicates.add(older_obj_id=older, obj_id=obj_id, frames=frames)
    for obj_id, frame_index in life.gone.items():
        message.gone.add(obj_id=obj_id, frame_index=frame_index)
    return message


def concept_from_proto(message: snapshot_pb2.ConceptSnapshot) -> FollowedConcept:
    """The concept that :func:`concept_to_proto` has converted."""
    concept = FollowedConcept.of(wire.session_concept_from_proto(message.concept))
    concept.next_id = message.next_obj_id
    concept.life = Lifecycle(
        {
            o.obj_id: ObjectLife(
                first_frame=o.first_frame,
                keep_alive=o.keep_alive,
                unmatched=o.unmatched,
                last_occluded=o.last_occluded if o.HasField("last_occluded") else None,
                reverse=o.reverse if o.HasField("reverse") else None,
                is_established=o.established,
            )
            for o in message.objects
        },
        {(d.older_obj_id, d.obj_id): d.frames for d in message.duplicates},
        {g.obj_id: g.frame_index for g in message.gone},
        message.last_frame if message.HasField("last_frame") else None,
    )
    return concept
