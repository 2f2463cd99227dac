"""SegmentImage: prompts on one image, without a session."""

from gateway.api_keys import current_caller
from gateway.backends.encoders import EncodeOptions, Encoders
from gateway.backends.image_encoding import MAX_ATTEMPTS, encode_image, raise_after_last
from gateway.backends.trackers import Trackers
from gateway.sessions.click_trace import ClickTrace
from maskmesh import telemetry, wire
from maskmesh.errors import EmbeddingNotFound, InvalidPrompt, InvalidRequest
from maskmesh.internal.v1 import tracker_pb2
from maskmesh.media.pictures import PixelLimit
from maskmesh.rpc.client_calls import current_trace_id
from maskmesh.v1 import segmentation_pb2

MAX_PROMPTS = 64


async def segment_image(
    request: segmentation_pb2.SegmentImageRequest,
    encoders: Encoders,
    trackers: Trackers,
    *,
    limit: PixelLimit,
    timeout: float | None,
    start_ns: int,
) -> segmentation_pb2.SegmentImageResponse:
    """Carry out SegmentImage; the proto lists its errors.  ``start_ns`` is when the call was received."""
    tenant, num_objects = current_caller().tenant, len(request.prompts)
    with ClickTrace(start_ns=start_ns, tenant=tenant, num_objects=num_objects) as click:
        return await _segment_image(request, encoders, trackers, click, limit=limit, timeout=timeout)


async def _segment_image(
    request: segmentation_pb2.SegmentImageRequest,
    encoders: Encoders,
    trackers: Trackers,
    click: ClickTrace,
    *,
    limit: PixelLimit,
    timeout: float | None,
) -> segmentation_pb2.SegmentImageResponse:
    image = wire.image_from_proto(request.image, field="image", limit=limit)
    options = wire.mask_options_from_proto(request.mask_options)
    if options.non_overlapping and request.multimask_output:
        raise InvalidRequest(
            "non-overlapping masks are not supported with multimask_output",
            field="mask_options.non_overlapping",
        )
    _check_prompts(request)
    caller = current_caller()
    await caller.count_interactive_frame()
    encode_options = EncodeOptions(interactive=True, tenant=caller.tenant, timeout=timeout)
    message = tracker_pb2.SegmentImageRequest(
        prompts=[tracker_pb2.ImagePrompt(obj_id=p.obj_id, prompt=p.prompt) for p in request.prompts],
        multimask_output=request.multimask_output,
        mask_options=request.mask_options,
    )
    click.did(telemetry.PREPARE)
    for attempt in range(MAX_ATTEMPTS):
        encoded = await encode_image(encoders, image, encode_options)
        click.encoded(encoded)
        click.mark(encoded.ready_ns)
        ref = encoded.ref
        _check_coordinates(request, ref.image_width, ref.image_height)
        message.embedding.CopyFrom(wire.embedding_ref_to_proto(ref))
        click.did(telemetry.PREPARE)
        try:
            response = await trackers.segment_image(message, timeout)
            break
        except EmbeddingNotFound as error:
            raise_after_last(attempt, error)
    click.mark(response.received_ns)
    click.work.add_records(response.transfers).add(wire.work_from_proto(response.message.work))
    answer = segmentation_pb2.SegmentImageResponse(
        width=ref.image_width,
        height=ref.image_height,
        masks=response.message.masks,
        trace_id=current_trace_id(),
    )
    click.did(telemetry.RESPOND)
    return answer


def _check_prompts(request: segmentation_pb2.SegmentImageRequest) -> None:
    """Check the prompts as far as this does not need the size of the image."""
    if not request.prompts:
        raise InvalidPrompt("at least one prompt is needed", field="prompts")
    if len(request.prompts) > MAX_PROMPTS:
        raise InvalidPrompt(f"at most {MAX_PROMPTS} prompts are allowed", field="prompts")
    obj_ids = set()
    for index, prompt in enumerate(request.prompts):
        if prompt.obj_id in obj_ids:
            raise InvalidPrompt(f"object {prompt.obj_id} is prompted twice", field=f"prompts[{index}].obj_id")
        obj_ids.add(prompt.obj_id)
        if prompt.prompt.mask.WhichOneof("form") == "rle":
            raise InvalidPrompt(
                "on a single image, a mask prompt must be low-resolution logits",
                field=f"prompts[{index}].prompt.mask",
            )


def _check_coordinates(request: segmentation_pb2.SegmentImageRequest, width: int, height: int) -> None:
    """Check the prompts against the size of the image."""
    for index, prompt in enumerate(request.prompts):
        wire.prompt_from_proto(prompt.prompt, width=width, height=height, field=f"prompts[{index}].prompt")
