"""SegmentConcepts: all objects of concepts on one image, without a session."""

from collections.abc import Sequence

from maskmesh import telemetry, wire
from maskmesh.concepts import Concept, ConceptInstance, ConceptInstances
from maskmesh.errors import InvalidPrompt, InvalidRequest
from maskmesh.internal.v1 import tracker_pb2
from maskmesh.masks import BinaryMask, LowResLogits, MaskOptions
from maskmesh.rpc.server_interceptor import received_ns
from maskmesh.scheduling.admission import QueueEntry
from maskmesh.wire.concepts import DetectionOptions
from tracker_svc.components import Components
from tracker_svc.compute.concepts import ConceptFinder, Detections
from tracker_svc.compute.mask_output import object_masks
from tracker_svc.compute.step import Frame
from tracker_svc.compute.tokenizer import PhraseTooLong
from tracker_svc.memory.frame_state import FrameState


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


def require_concepts(components: Components) -> ConceptFinder:
    """The model's concept detector.  Raises InvalidRequest if it has none."""
    if components.concepts is None:
        raise InvalidRequest(
            f"the model {components.info.name} finds no concepts; sam3 does", field="concepts"
        )
    return components.concepts


def check_phrases(finder: ConceptFinder, concepts: list[Concept]) -> None:
    """Raises InvalidPrompt for the first phrase that has too many tokens."""
    for index, concept in enumerate(concepts):
        try:
            finder.tokenize(concept)
        except PhraseTooLong as error:
            raise InvalidPrompt(str(error), field=f"concepts[{index}].phrase") from error


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
