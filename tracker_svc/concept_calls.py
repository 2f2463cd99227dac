"""SegmentConcepts and AddConcept: the objects of concepts on an image without a session, and on a frame of a
session.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

from maskmesh import telemetry, wire
from maskmesh.concepts import Concept, ConceptInstance, ConceptInstances, SessionConcept
from maskmesh.errors import InvalidPrompt, InvalidRequest
from maskmesh.internal.v1 import tracker_pb2
from maskmesh.masks import BinaryMask, LowResLogits, MaskOptions
from maskmesh.rpc.server_interceptor import received_ns
from maskmesh.scheduling.admission import QueueEntry
from maskmesh.telemetry import StageRecorder
from maskmesh.types import EmbeddingRef, ObjectMask
from maskmesh.wire.concepts import DetectionOptions
from tracker_svc.components import Components
from tracker_svc.compute.concepts import ConceptFinder, Detections
from tracker_svc.compute.mask_output import object_masks, tracked_masks
from tracker_svc.compute.step import Frame
from tracker_svc.compute.tokenizer import PhraseTooLong
from tracker_svc.following.followed_concept import FollowedConcept
from tracker_svc.memory.frame_state import FrameState
from tracker_svc.sessions.concept_changes import add_concept as commit_concept
from tracker_svc.sessions.concept_changes import begin_following
from tracker_svc.sessions.prompts import expected_revision
from tracker_svc.sessions.session import Session


async def segment_concepts(
    components: Components, request: tracker_pb2.SegmentConceptsRequest
) -> tracker_pb2.SegmentConceptsResponse:
    """Carry out SegmentConcepts; the proto lists its errors."""
    finder = require_concepts(components)
    recorder = components.tracker.recorder()
    with recorder.handling(telemetry.PREPARE, received_ns()):
        ref = wire.embedding_ref_from_proto(request.embedding)
        mask_options = wire.mask_options_from_proto(request.mask_options)
        options = wire.detection_options_from_proto(request)
        concepts = wire.concepts_from_proto(request.concepts, width=ref.image_width, height=ref.image_height)
        check_phrases(finder, concepts)
    frame = await components.embeddings.get(ref)

    def detect() -> list[ConceptInstances]:
        answers = []
        for detections in finder.detect(
            frame,
            concepts,
            threshold=options.score_threshold,
            max_instances=options.max_instances,
            omit_masks=options.omit_masks,
            recorder=recorder,
        ):
            with recorder.stage(telemetry.POSTPROCESS):
                answers.append(_instances(detections, frame, options, mask_options))
        return answers

    try:
        found = await components.worker.run(detect, recorder=recorder, entry=QueueEntry(tenant=ref.tenant))
        with recorder.handling(telemetry.RESPOND):
            return tracker_pb2.SegmentConceptsResponse(
                concepts=[wire.concept_instances_to_proto(concept) for concept in found],
                work=wire.work_to_proto(telemetry.WorkSummary().add_records(recorder.records)),
            )
    finally:
        telemetry.emit_soon(recorder.records, None)


async def add_concept(
    components: Components, session: Session, request: tracker_pb2.AddConceptRequest, *, start_ns: int
) -> tracker_pb2.AddConceptResponse:
    """Carry out AddConcept; the proto lists its errors.  ``start_ns`` is when the call was received."""
    attributes: telemetry.Attributes = {telemetry.FRAME_KIND: telemetry.CONDITIONING}
    if request.HasField("frame_index"):
        attributes[telemetry.FRAME_INDEX] = request.frame_index
    recorder = components.tracker.recorder(attributes)
    try:
        return await _add_concept(components, session, request, recorder, start_ns=start_ns)
    finally:
        telemetry.emit_soon(recorder.records, None)


async def _add_concept(
    components: Components,
    session: Session,
    request: tracker_pb2.AddConceptRequest,
    recorder: StageRecorder,
    *,
    start_ns: int,
) -> tracker_pb2.AddConceptResponse:
    finder, follower = require_concepts(components, field="concept"), components.tracker.follower
    assert follower is not None, "a model that detects concepts follows them"
    options = wire.mask_options_from_proto(request.mask_options)
    added, ref = _concept_of(request, live=session.is_live)
    check_phrase(finder, added.concept, field="concept.phrase")
    recorder.add(telemetry.PREPARE, start_ns, time.time_ns())
    # The lock is taken after the fetch, so that other calls of the session do not wait for the encoder.
    frame = None if ref is None else await components.embeddings.get(ref)
    async with session.locked(recorder):
        with recorder.handling(telemetry.PREPARE):
            session.require_open()
            session.check_revision(expected_revision(request))
            session.concepts.check_new(added.concept_id)
            session.history.check_room()
            first_obj_id = session.concepts.first_obj_id(added.first_obj_id, session.objects)
            concept = FollowedConcept.of(replace(added, first_obj_id=first_obj_id))
        following, masks = None, []
        if frame is not None and ref is not None:
            following = begin_following(session, [concept])

            def find() -> list[ObjectMask]:
                assert frame is not None
                assert following is not None
                states = follower.find(following, request.frame_index, frame, recorder)
                with recorder.stage(telemetry.POSTPROCESS):
                    found = tracked_masks(request.frame_index, following.found, states, options, frame)
                return found.masks

            masks = await components.worker.run(find, recorder=recorder, entry=QueueEntry(tenant=ref.tenant))
        # Nothing below can fail: a concept is added completely or not at all.
        with recorder.handling(telemetry.COMMIT):
            commit_concept(session, concept, following)
            response = tracker_pb2.AddConceptResponse(
                masks=[wire.object_mask_to_proto(mask) for mask in masks],
                revision=session.revision,
                first_obj_id=concept.added.first_obj_id,
                stage_times=wire.stage_times_to_proto(telemetry.stage_seconds(recorder.records)),
                work=wire.work_to_proto(telemetry.WorkSummary().add_records(recorder.records)),
            )
            session.record_change(request.idempotency_key, response)
    await session.flush(recorder)
    return response


def _concept_of(
    request: tracker_pb2.AddConceptRequest, *, live: bool
) -> tuple[SessionConcept, EmbeddingRef | None]:
    """The concept of a request, and its frame.  Raises InvalidPrompt, InvalidRequest."""
    options = wire.concept_options_from_proto(request.options, live=live)
    wire.check_first_obj_id(request.first_obj_id)
    frame_index, ref, width, height = None, None, 0, 0
    if request.HasField("frame_index"):
        if request.frame_index < 0:
            raise InvalidRequest("the frame index must not be negative", field="frame_index")
        frame_index, ref = request.frame_index, wire.embedding_ref_from_proto(request.embedding)
        width, height = ref.image_width, ref.image_height
    elif request.concept.exemplars:
        raise InvalidPrompt("a concept with exemplars needs the frame that they are on", field="frame_index")
    concept = wire.concept_from_proto(request.concept, width=width, height=height)
    return SessionConcept(request.concept_id, concept, frame_index, options, request.first_obj_id), ref


def require_concepts(components: Components, *, field: str = "concepts") -> ConceptFinder:
    """The model's concept detector.  Raises InvalidRequest if it has none."""
    if components.concepts is None:
        raise InvalidRequest(f"the model {components.info.name} finds no concepts; sam3 does", field=field)
    return components.concepts


def check_phrases(finder: ConceptFinder, concepts: list[Concept]) -> None:
    """Raises InvalidPrompt for the first phrase that has too many tokens."""
    for index, concept in enumerate(concepts):
        check_phrase(finder, concept, field=f"concepts[{index}].phrase")


def check_phrase(finder: ConceptFinder, concept: Concept, *, field: str) -> None:
    """Raises InvalidPrompt if a phrase has too many tokens."""
    try:
        finder.tokenize(concept)
    except PhraseTooLong as error:
        raise InvalidPrompt(str(error), field=field) from error


def _instances(
    detections: Detections, frame: Frame, options: DetectionOptions, mask_options: MaskOptions
) -> ConceptInstances:
    """The instances of one concept with masks in the requested form."""
    count = len(detections.scores)
    masks: Sequence[BinaryMask | LowResLogits | None] = [None] * count
    if not options.omit_masks and detections.masks is not None:
        states = [
            FrameState(mask[None], score, 1.0, None)
            for mask, score in zip(detections.masks, detections.scores, strict=True)
        ]
        size = {"width": frame.width, "height": frame.height}
        masks = [found.mask for found in object_masks(range(count), states, mask_options, **size)]
    return ConceptInstances(
        detections.presence,
        [ConceptInstance(*found) for found in zip(detections.scores, detections.boxes, masks, strict=True)],
    )
