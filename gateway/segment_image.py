"""SegmentImage: prompts on one image, without a session."""

from gateway.api_keys import current_caller
from gateway.image_call import ImageCalls
from gateway.sessions.click_trace import ClickTrace
from maskmesh import telemetry, wire
from maskmesh.errors import InvalidPrompt, InvalidRequest
from maskmesh.internal.v1 import tracker_pb2
from maskmesh.media.pictures import PixelLimit
from maskmesh.rpc.client_calls import current_trace_id
from maskmesh.types import EmbeddingRef
from maskmesh.v1 import segmentation_pb2

MAX_PROMPTS = 64


async def segment_image(
    request: segmentation_pb2.SegmentImageRequest,
    calls: ImageCalls,
    *,
    limit: PixelLimit,
    timeout: float | None,
    start_ns: int,
) -> segmentation_pb2.SegmentImageResponse:
    """Carry out SegmentImage; the proto lists its errors.  ``start_ns`` is when the call was received."""
    tenant, num_objects = current_caller().tenant, len(request.prompts)

    def check(ref: EmbeddingRef) -> None:
        _check_coordinates(request, ref.image_width, ref.image_height)

    with ClickTrace(start_ns=start_ns, tenant=tenant, num_objects=num_objects) as click:
        image = wire.image_from_proto(request.image, field="image", limit=limit)
        options = wire.mask_options_from_proto(request.mask_options)
        if options.non_overlapping and request.multimask_output:
            raise InvalidRequest(
                "non-overlapping masks are not supported with multimask_output",
                field="mask_options.non_overlapping",
            )
        _check_prompts(request)
        message = tracker_pb2.SegmentImageRequest(
            prompts=[tracker_pb2.ImagePrompt(obj_id=p.obj_id, prompt=p.prompt) for p in request.prompts],
            multimask_output=request.multimask_output,
            mask_options=request.mask_options,
        )
        ref, response = await calls.call("SegmentImage", message, image, click, check=check, timeout=timeout)
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
