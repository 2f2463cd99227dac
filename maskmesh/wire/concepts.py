"""Conversion of concepts and instances to messages and back."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from maskmesh.concepts import (
    DEFAULT_OPTIONS,
    FIRST_OBJ_ID,
    MAX_FIRST_OBJ_IDS,
    OBJ_IDS_PER_CONCEPT,
    Concept,
    ConceptInstance,
    ConceptInstances,
    ConceptOptions,
    Exemplar,
    SessionConcept,
)
from maskmesh.errors import InvalidPrompt, InvalidRequest
from maskmesh.internal.v1 import tracker_pb2
from maskmesh.v1 import segmentation_pb2, session_pb2, types_pb2
from maskmesh.wire.masks import mask_from_proto, mask_to_proto
from maskmesh.wire.prompts import checked_box
from maskmesh.wire.values import box_from_proto, box_to_proto

MAX_CONCEPTS = 32
MAX_EXEMPLARS = 32
MAX_PHRASE_LENGTH = 1024

DEFAULT_SCORE_THRESHOLD = 0.5

# In frames of a video; the sessions of live streams have none.
DEFAULT_HOTSTART_DELAY = 15
MAX_HOTSTART_DELAY = 64


@dataclass(frozen=True, slots=True)
class DetectionOptions:
    """Which instances of each concept are returned, and whether with masks."""

    score_threshold: float = DEFAULT_SCORE_THRESHOLD
    max_instances: int = 0
    """0 is no limit."""
    omit_masks: bool = False


def concept_to_proto(concept: Concept) -> types_pb2.Concept:
    """Convert a concept to a message; the receiver checks it."""
    message = types_pb2.Concept(phrase=concept.phrase)
    for exemplar in concept.exemplars:
        message.exemplars.add(box=box_to_proto(exemplar.box), negative=not exemplar.positive)
    return message


def check_concepts(messages: Sequence[types_pb2.Concept]) -> None:
    """Check concepts as far as this does not need the size of the image.  Raises InvalidPrompt."""
    if not messages:
        raise InvalidPrompt("at least one concept is needed", field="concepts")
    if len(messages) > MAX_CONCEPTS:
        raise InvalidPrompt(f"at most {MAX_CONCEPTS} concepts are allowed", field="concepts")
    for index, message in enumerate(messages):
        check_concept(message, field=f"concepts[{index}]")


def check_concept(message: types_pb2.Concept, *, field: str = "concept") -> None:
    """Check one concept in the same way.  Raises InvalidPrompt."""
    if len(message.phrase) > MAX_PHRASE_LENGTH:
        raise InvalidPrompt(f"a phrase has at most {MAX_PHRASE_LENGTH} characters", field=f"{field}.phrase")
    if len(message.exemplars) > MAX_EXEMPLARS:
        raise InvalidPrompt(f"at most {MAX_EXEMPLARS} exemplars are allowed", field=f"{field}.exemplars")
    if message.phrase.strip():
        return
    if not message.exemplars:
        raise InvalidPrompt("a concept needs a phrase or exemplars", field=field)
    if all(exemplar.negative for exemplar in message.exemplars):
        raise InvalidPrompt(
            "without a phrase, a concept needs an exemplar that is not negative", field=f"{field}.exemplars"
        )


def concepts_from_proto(messages: Sequence[types_pb2.Concept], *, width: int, height: int) -> list[Concept]:
    """Convert messages to concepts, checked against the size of their image.

    Raises InvalidPrompt for the first invalid field.
    """
    check_concepts(messages)
    return [
        concept_from_proto(message, width=width, height=height, field=f"concepts[{index}]")
        for index, message in enumerate(messages)
    ]


def concept_from_proto(
    message: types_pb2.Concept, *, width: int, height: int, field: str = "concept"
) -> Concept:
    """Convert one concept in the same way."""
    check_concept(message, field=field)
    exemplars = []
    for number, exemplar in enumerate(message.exemplars):
        path = f"{field}.exemplars[{number}].box"
        if not exemplar.HasField("box"):
            raise InvalidPrompt("an exemplar needs a box", field=path)
        box = checked_box(exemplar.box, width=width, height=height, field=path)
        exemplars.append(Exemplar(box, not exemplar.negative))
    return Concept(message.phrase.strip(), exemplars)


def recorded_concept_from_proto(message: types_pb2.Concept) -> Concept:
    """Convert a message to a concept, without checks: it was checked when the client sent it."""
    exemplars = [Exemplar(box_from_proto(e.box), not e.negative) for e in message.exemplars]
    return Concept(message.phrase, exemplars)


def concept_options_to_proto(options: ConceptOptions) -> types_pb2.ConceptOptions:
    """Convert the options of a concept to a message.  Raises ValueError for a negative number."""
    return types_pb2.ConceptOptions(
        score_threshold=options.score_threshold,
        new_score_threshold=options.new_score_threshold,
        detect_every=options.detect_every,
        hotstart_delay=options.hotstart_delay,
        max_objects=options.max_objects,
    )


def concept_options_from_proto(
    message: types_pb2.ConceptOptions, *, live: bool = False, field: str = "options"
) -> ConceptOptions:
    """Convert a message to the options of a concept, with the defaults filled in.  Raises InvalidRequest."""
    delay = 0 if live else DEFAULT_HOTSTART_DELAY
    if message.HasField("hotstart_delay"):
        delay = message.hotstart_delay
        if delay > (0 if live else MAX_HOTSTART_DELAY):
            raise InvalidRequest(
                "a live stream has no hotstart delay" if live else f"at most {MAX_HOTSTART_DELAY} frames",
                field=f"{field}.hotstart_delay",
            )
    return ConceptOptions(
        score_threshold=_score(message, "score_threshold", field),
        new_score_threshold=_score(message, "new_score_threshold", field),
        detect_every=message.detect_every or 1,
        hotstart_delay=delay,
        max_objects=message.max_objects,
    )


def check_first_obj_id(first_obj_id: int) -> None:
    """Check the number of a concept's first object, 0 for one of the server.  Raises InvalidRequest."""
    block, rest = divmod(first_obj_id - FIRST_OBJ_ID, OBJ_IDS_PER_CONCEPT)
    if first_obj_id and (rest or not 0 <= block < MAX_FIRST_OBJ_IDS):
        last = FIRST_OBJ_ID + (MAX_FIRST_OBJ_IDS - 1) * OBJ_IDS_PER_CONCEPT
        raise InvalidRequest(
            f"it is {FIRST_OBJ_ID}, {FIRST_OBJ_ID + OBJ_IDS_PER_CONCEPT} and so on, up to {last}",
            field="first_obj_id",
        )


def _score(message: types_pb2.ConceptOptions, name: str, field: str) -> float:
    """A score as the client wrote it, for example 0.7: the message has its nearest float32."""
    if not message.HasField(name):
        default: float = getattr(DEFAULT_OPTIONS, name)
        return default
    value: float = getattr(message, name)
    if not (math.isfinite(value) and 0 <= value <= 1):
        raise InvalidRequest("a score threshold is between 0 and 1", field=f"{field}.{name}")
    return round(value, 6)


def session_concept_to_proto(concept: SessionConcept) -> session_pb2.SessionConcept:
    """Convert one concept of a session to a message."""
    return session_pb2.SessionConcept(
        concept_id=concept.concept_id,
        concept=concept_to_proto(concept.concept),
        frame_index=concept.frame_index,
        options=concept_options_to_proto(concept.options),
        first_obj_id=concept.first_obj_id,
    )


def session_concept_from_proto(
    message: session_pb2.SessionConcept | session_pb2.ConceptRecord,
) -> SessionConcept:
    """Convert a message to one concept of a session."""
    return SessionConcept(
        message.concept_id,
        recorded_concept_from_proto(message.concept),
        message.frame_index if message.HasField("frame_index") else None,
        concept_options_from_proto(message.options),
        message.first_obj_id,
    )


def detection_options_from_proto(
    message: segmentation_pb2.SegmentConceptsRequest | tracker_pb2.SegmentConceptsRequest,
) -> DetectionOptions:
    """The options of a request.  Raises InvalidRequest."""
    threshold = DEFAULT_SCORE_THRESHOLD
    if message.HasField("score_threshold"):
        threshold = message.score_threshold
        if not (math.isfinite(threshold) and 0 <= threshold <= 1):
            raise InvalidRequest("a score threshold is between 0 and 1", field="score_threshold")
    return DetectionOptions(threshold, message.max_instances, message.omit_masks)


def concept_instances_to_proto(concept: ConceptInstances) -> types_pb2.ConceptInstances:
    """Convert the instances of one concept to a message."""
    message = types_pb2.ConceptInstances(presence=concept.presence)
    for instance in concept.instances:
        added = message.instances.add(score=instance.score, box=box_to_proto(instance.box))
        if instance.mask is not None:
            added.mask.CopyFrom(mask_to_proto(instance.mask))
    return message


def concept_instances_from_proto(message: types_pb2.ConceptInstances) -> ConceptInstances:
    """Convert a message to the instances of one concept."""
    return ConceptInstances(
        message.presence,
        [
            ConceptInstance(
                instance.score,
                box_from_proto(instance.box),
                mask_from_proto(instance.mask, field="mask") if instance.HasField("mask") else None,
            )
            for instance in message.instances
        ],
    )
