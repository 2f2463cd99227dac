"""SegmentImage: one image, prompts on it, masks; no session."""

from gateway.api_keys import current_caller
from gateway.backends.embeddings import encode_image, with_embedding
from gateway.backends.encoders import Encoders, EncodeOptions
from gateway.backends.trackers import Trackers
from maskmesh import wire
from maskmesh.errors import InvalidPrompt, InvalidRequest
from maskmesh.internal.v1 import tracker_pb2
from maskmesh.rpc.interceptors import current_trace_id
from maskmesh.types import EmbeddingRef
from maskmesh.v1 import segmentation_pb2, types_pb2

MAX_PROMPTS = 64


async def segment_image(
    request: segmentation_pb2.SegmentImageRequest,
    encoder: Encoders,
    trackers: Trackers,
    *,
    max_pixels: int,
    timeout: float | None,
) -> segmentation_pb2.SegmentImageResponse:
    """See the proto."""
    image = wire.image_from_proto(request.image, field="image", max_pixels=max_pixels)
    options = wire.mask_options_from_proto(request.mask_options)
    if options.non_overlapping and request.multimask_output:
        raise InvalidRequest("alternatives overlap", field="mask_options.non_overlapping")
    _check_prompts(request)
    caller = current_caller()
    await caller.count_frame()
    encode_options = EncodeOptions(interactive=True, tenant=caller.tenant, timeout=timeout)
    refs: list[EmbeddingRef] = []

    async def obtain() -> EmbeddingRef:
        refs.append(await encode_image(encoder, image, encode_options))
        return refs[-1]

    async def use(ref: EmbeddingRef) -> list[types_pb2.ObjectMask]:
        for index, prompt in enumerate(request.prompts):
            wire.prompt_from_proto(
                prompt.prompt,
                width=ref.image_width,
                height=ref.image_height,
                field=f"prompts[{index}].prompt",
            )
        message = tracker_pb2.SegmentImageRequest(
            embedding=wire.embedding_ref_to_proto(ref),
            prompts=[tracker_pb2.ImagePrompt(obj_id=p.obj_id, prompt=p.prompt) for p in request.prompts],
            multimask_output=request.multimask_output,
            mask_options=request.mask_options,
        )
        return await trackers.segment_image(message, timeout)

    masks = await with_embedding(obtain, use, lambda: None)
    return segmentation_pb2.SegmentImageResponse(
        width=refs[-1].image_width,
        height=refs[-1].image_height,
        masks=masks,
        trace_id=current_trace_id(),
    )


def _check_prompts(request: segmentation_pb2.SegmentImageRequest) -> None:
    """What can be said of the prompts before the size of the image is known."""
    if not request.prompts:
        raise InvalidPrompt("at least one prompt is needed", field="prompts")
    if len(request.prompts) > MAX_PROMPTS:
        raise InvalidPrompt(f"at most {MAX_PROMPTS} prompts are allowed", field="prompts")
    seen = set()
    for index, prompt in enumerate(request.prompts):
        if prompt.obj_id in seen:
            raise InvalidPrompt(f"object {prompt.obj_id} is prompted twice", field=f"prompts[{index}].obj_id")
        seen.add(prompt.obj_id)
        if prompt.prompt.mask.WhichOneof("form") == "rle":
            raise InvalidPrompt(
                "on a single image a mask is low-resolution logits",
                field=f"prompts[{index}].prompt.mask",
            )
