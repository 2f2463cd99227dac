"""Conversion of concepts and instances to messages and back."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from maskmesh.concepts import Concept, ConceptInstance, ConceptInstances, Exemplar
from maskmesh.errors import InvalidPrompt, InvalidRequest
from maskmesh.internal.v1 import tracker_pb2
from maskmesh.v1 import segmentation_pb2, types_pb2
from maskmesh.wire.boxes import box_from_proto, box_to_proto
from maskmesh.wire.masks import mask_from_proto, mask_to_proto
from maskmesh.wire.prompts import checked_box

MAX_CONCEPTS = 32
MAX_EXEMPLARS = 32
MAX_PHRASE_LENGTH = 1024

DEFAULT_SCORE_THRESHOLD = 0.5


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
        field = f"concepts[{index}]"
        if len(message.phrase) > MAX_PHRASE_LENGTH:
            raise InvalidPrompt(
                f"a phrase has at most {MAX_PHRASE_LENGTH} characters", field=f"{field}.phrase"
            )
        if len(message.exemplars) > MAX_EXEMPLARS:
            raise InvalidPrompt(f"at most {MAX_EXEMPLARS} exemplars are allowed", field=f"{field}.exemplars")
        if message.phrase.strip():
            continue
        if not message.exemplars:
            raise InvalidPrompt("a concept needs a phrase or exemplars", field=field)
        if all(exemplar.negative for exemplar in message.exemplars):
            raise InvalidPrompt(
                "without a phrase, a concept needs an exemplar that is not negative",
                field=f"{field}.exemplars",
            )


def concepts_from_proto(messages: Sequence[types_pb2.Concept], *, width: int, height: int) -> list[Concept]:
    """Convert messages to concepts, checked against the size of their image.

    Raises InvalidPrompt for the first invalid field.
    """
    check_concepts(messages)
    concepts = []
    for index, message in enumerate(messages):
        exemplars = []
        for number, exemplar in enumerate(message.exemplars):
            field = f"concepts[{index}].exemplars[{number}].box"
            if not exemplar.HasField("box"):
                raise InvalidPrompt("an exemplar needs a box", field=field)
            box = checked_box(exemplar.box, width=width, height=height, field=field)
            exemplars.append(Exemplar(box, not exemplar.negative))
        concepts.append(Concept(message.phrase.strip(), exemplars))
    return concepts


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
