"""Conversion of the state and history of sessions to messages and back."""

from collections.abc import Sequence

from maskmesh.concepts import SessionConcept
from maskmesh.errors import InvalidRequest
from maskmesh.history import (
    ClearRecord,
    ConceptRemovalRecord,
    FrameRange,
    HistoryEntry,
    PromptRecord,
    RemovalRecord,
    SessionObject,
    SessionState,
)
from maskmesh.types import Box, Point, Prompt
from maskmesh.v1 import segmentation_pb2, session_pb2, types_pb2
from maskmesh.wire.concepts import concept_options_to_proto, concept_to_proto, session_concept_from_proto
from maskmesh.wire.masks import mask_from_proto
from maskmesh.wire.models import model_info_from_proto
from maskmesh.wire.prompts import prompt_to_proto


def reverse_from_proto(value: int) -> bool:
    """Whether a direction is reverse; unspecified is forward.  Raises InvalidRequest if it is unknown."""
    if value not in session_pb2.Direction.values():
        raise InvalidRequest(f"unknown direction {value}", field="direction")
    return value == session_pb2.DIRECTION_REVERSE


def direction_to_proto(*, reverse: bool) -> session_pb2.Direction:
    """Convert ``reverse`` to a direction."""
    return session_pb2.DIRECTION_REVERSE if reverse else session_pb2.DIRECTION_FORWARD


def session_objects_to_proto(objects: Sequence[SessionObject]) -> list[session_pb2.SessionObject]:
    """Convert the objects of a session to messages."""
    return [
        session_pb2.SessionObject(
            obj_id=o.obj_id,
            prompted_frames=o.prompted_frames,
            concept_id=o.concept_id,
            found=o.is_found,
        )
        for o in objects
    ]


def session_objects_from_proto(messages: Sequence[session_pb2.SessionObject]) -> list[SessionObject]:
    """Convert messages to the objects of a session."""
    return [
        SessionObject(
            m.obj_id,
            tuple(m.prompted_frames),
            m.concept_id if m.HasField("concept_id") else None,
            m.found,
        )
        for m in messages
    ]


def frame_range_to_proto(frames: FrameRange) -> session_pb2.FrameRange:
    """Convert a range of frames to a message."""
    return session_pb2.FrameRange(
        first_frame_index=frames.first_frame_index,
        last_frame_index=frames.last_frame_index,
        direction=direction_to_proto(reverse=frames.reverse),
    )


def frame_range_from_proto(message: session_pb2.FrameRange) -> FrameRange:
    """Convert a message to a range of frames."""
    reverse = message.direction == session_pb2.DIRECTION_REVERSE
    return FrameRange(message.first_frame_index, message.last_frame_index, reverse)


def history_to_proto(entries: Sequence[HistoryEntry]) -> list[session_pb2.HistoryEntry]:
    """Convert a history to messages."""
    return [_entry_to_proto(entry) for entry in entries]


def history_from_proto(messages: Sequence[session_pb2.HistoryEntry]) -> list[HistoryEntry]:
    """Convert messages to a history; entries of kinds that a newer version added are left out."""
    entries = (_entry_from_proto(message) for message in messages)
    return [entry for entry in entries if entry is not None]


def session_state_from_proto(message: segmentation_pb2.GetSessionResponse) -> SessionState:
    """Convert a message to the state of a session."""
    return SessionState(
        session_id=message.session_id,
        ttl=message.ttl.ToTimedelta(),
        model=model_info_from_proto(message.model),
        num_frames=message.num_frames,
        width=message.width,
        height=message.height,
        frames_per_second=message.frames_per_second,
        revision=message.revision,
        objects=session_objects_from_proto(message.objects),
        history=history_from_proto(message.history),
        concepts=[session_concept_from_proto(concept) for concept in message.concepts],
    )


def _entry_to_proto(entry: HistoryEntry) -> session_pb2.HistoryEntry:
    match entry:
        case PromptRecord(frame_index, obj_id, prompt, clear_previous):
            record = session_pb2.PromptRecord(
                frame_index=frame_index,
                obj_id=obj_id,
                prompt=prompt_to_proto(prompt),
                clear_previous=clear_previous,
            )
            return session_pb2.HistoryEntry(prompt=record)
        case ClearRecord(frame_index, obj_id):
            cleared = session_pb2.ClearRecord(frame_index=frame_index, obj_id=obj_id)
            return session_pb2.HistoryEntry(cleared=cleared)
        case RemovalRecord(obj_id, found_by):
            removed = session_pb2.RemovalRecord(obj_id=obj_id, concept_id=found_by)
            return session_pb2.HistoryEntry(removed=removed)
        case SessionConcept(concept_id, concept, added_on, options, first_obj_id):
            added = session_pb2.ConceptRecord(
                concept_id=concept_id,
                concept=concept_to_proto(concept),
                frame_index=added_on,
                options=concept_options_to_proto(options),
                first_obj_id=first_obj_id,
            )
            return session_pb2.HistoryEntry(concept=added)
        case ConceptRemovalRecord(concept_id):
            ended = session_pb2.ConceptRemovalRecord(concept_id=concept_id)
            return session_pb2.HistoryEntry(concept_removed=ended)
        case FrameRange():
            return session_pb2.HistoryEntry(tracked=frame_range_to_proto(entry))


def _entry_from_proto(message: session_pb2.HistoryEntry) -> HistoryEntry | None:
    match message.WhichOneof("event"):
        case "prompt":
            record = message.prompt
            return PromptRecord(
                record.frame_index,
                record.obj_id,
                recorded_prompt_from_proto(record.prompt),
                record.clear_previous,
            )
        case "cleared":
            return ClearRecord(message.cleared.frame_index, message.cleared.obj_id)
        case "removed":
            removed = message.removed
            return RemovalRecord(
                removed.obj_id, removed.concept_id if removed.HasField("concept_id") else None
            )
        case "concept":
            return session_concept_from_proto(message.concept)
        case "concept_removed":
            return ConceptRemovalRecord(message.concept_removed.concept_id)
        case "tracked":
            return frame_range_from_proto(message.tracked)
    return None


def recorded_prompt_from_proto(message: types_pb2.Prompt) -> Prompt:
    """Convert a message to a prompt, without checks: it was checked when the client sent it."""
    points = [Point(p.x, p.y, p.label == types_pb2.POINT_LABEL_POSITIVE) for p in message.points]
    box = message.box
    return Prompt(
        points,
        Box(box.x0, box.y0, box.x1, box.y1) if message.HasField("box") else None,
        mask_from_proto(message.mask) if message.HasField("mask") else None,
    )
