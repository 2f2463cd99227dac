"""SegmentConcepts: all objects of concepts on one image, without a session."""

from gateway.api_keys import current_caller
from gateway.image_call import ImageCalls
from gateway.sessions.click_trace import ClickTrace
from maskmesh import telemetry, wire
from maskmesh.internal.v1 import tracker_pb2
from maskmesh.media.pictures import PixelLimit
from maskmesh.rpc.client_calls import current_trace_id
from maskmesh.types import EmbeddingRef
from maskmesh.v1 import segmentation_pb2


async def segment_concepts(
    request: segmentation_pb2.SegmentConceptsRequest,
    calls: ImageCalls,
    *,
    limit: PixelLimit,
    timeout: float | None,
    start_ns: int,
) -> segmentation_pb2.SegmentConceptsResponse:
    """Carry out SegmentConcepts; the proto lists its errors.  ``start_ns`` is when the call was received."""
    tenant, num_concepts = current_caller().tenant, len(request.concepts)

    def check(ref: EmbeddingRef) -> None:
        wire.concepts_from_proto(request.concepts, width=ref.image_width, height=ref.image_height)

    with ClickTrace(start_ns=start_ns, tenant=tenant, num_objects=num_concepts) as click:
        image = wire.image_from_proto(request.image, field="image", limit=limit)
        wire.mask_options_from_proto(request.mask_options)
        wire.detection_options_from_proto(request)
        wire.check_concepts(request.concepts)
        message = tracker_pb2.SegmentConceptsRequest(
            concepts=request.concepts,
            max_instances=request.max_instances,
            omit_masks=request.omit_masks,
            mask_options=request.mask_options,
        )
        if request.HasField("score_threshold"):
            message.score_threshold = request.score_threshold
        ref, response = await calls.call(
            "SegmentConcepts", message, image, click, check=check, timeout=timeout
        )
        answer = segmentation_pb2.SegmentConceptsResponse(
            width=ref.image_width,
            height=ref.image_height,
            concepts=response.message.concepts,
            trace_id=current_trace_id(),
        )
        click.did(telemetry.RESPOND)
        return answer
