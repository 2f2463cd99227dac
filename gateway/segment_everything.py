"""SegmentEverything: all objects of one image, also of its parts."""

import asyncio
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from gateway.api_keys import current_caller
from gateway.image_call import ImageCalls
from gateway.sessions.click_trace import ClickTrace
from maskmesh import telemetry, wire
from maskmesh.errors import InvalidRequest
from maskmesh.internal.v1 import tracker_pb2
from maskmesh.masks import BINARY_FORMS, BoolArray, ByteArray, MaskOptions, PolygonMask
from maskmesh.media.pictures import PixelLimit, decode_picture
from maskmesh.rpc.client_calls import current_trace_id
from maskmesh.types import Box, EncodedImage, Image, RawImage
from maskmesh.v1 import segmentation_pb2, types_pb2

# How much parts of the image overlap, as a share of its shorter side at the first layer.  Masks that reach an
# edge of their part within this many pixels are cut off there, and left out.
OVERLAP = 512 / 1500
EDGE_PIXELS = 20.0

# Parts that are in progress at once.
CONCURRENT_PARTS = 2


class Part(NamedTuple):
    """A part of an image, in pixels."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def area(self) -> int:
        """Its number of pixels."""
        return (self.x1 - self.x0) * (self.y1 - self.y0)


def parts_of(width: int, height: int, layers: int) -> Iterator[Part]:
    """The whole image, then for layer n the 4^n parts of a grid that overlap.

    Source: the crops of the reference implementation of SAM.
    """
    yield Part(0, 0, width, height)
    for layer in range(1, layers + 1):
        per_side = 2**layer
        overlap = int(OVERLAP * min(width, height) * 2 / per_side)
        sides = [math.ceil((overlap * (per_side - 1) + length) / per_side) for length in (width, height)]
        for row in range(per_side):
            for column in range(per_side):
                x0, y0 = (sides[0] - overlap) * column, (sides[1] - overlap) * row
                yield Part(x0, y0, min(x0 + sides[0], width), min(y0 + sides[1], height))


async def segment_everything(
    request: segmentation_pb2.SegmentEverythingRequest,
    calls: ImageCalls,
    *,
    limit: PixelLimit,
    timeout: float | None,
    start_ns: int,
) -> segmentation_pb2.SegmentEverythingResponse:
    """Carry out SegmentEverything; the proto lists its errors.  ``start_ns`` is when the call came."""
    with ClickTrace(start_ns=start_ns, tenant=current_caller().tenant, num_objects=0) as click:
        image = wire.image_from_proto(request.image, field="image", limit=limit)
        options = wire.mask_options_from_proto(request.mask_options)
        grid = wire.grid_options_from_proto(request.options)
        layers = request.options.crop_layers
        if layers and not options.is_upsampled:
            raise InvalidRequest(
                "with crop_layers, masks have the size of the image", field="mask_options.space"
            )
        message = tracker_pb2.SegmentGridRequest(options=request.options, mask_options=request.mask_options)
        if not layers:
            ref, response = await calls.call(
                "SegmentGrid", message, image, click, check=lambda ref: None, timeout=timeout
            )
            found, width, height = list(response.message.masks), ref.image_width, ref.image_height
        else:
            pixels = await asyncio.to_thread(_pixels, image, limit)
            height, width = pixels.shape[:2]
            message.mask_options.CopyFrom(
                wire.mask_options_to_proto(
                    MaskOptions(
                        fill_holes_area=options.fill_holes_area,
                        remove_specks_area=options.remove_specks_area,
                    )
                )
            )
            message.options.max_masks = 0
            slots = asyncio.Semaphore(CONCURRENT_PARTS)

            async def search(part: Part) -> list[types_pb2.FoundMask]:
                async with slots:
                    cut = np.ascontiguousarray(pixels[part.y0 : part.y1, part.x0 : part.x1])
                    own = tracker_pb2.SegmentGridRequest()
                    own.CopyFrom(message)
                    _, response = await calls.call(
                        "SegmentGrid", own, RawImage(cut), click, check=lambda ref: None, timeout=timeout
                    )
                    return list(response.message.masks)

            parts = list(parts_of(width, height, layers))
            answers = await asyncio.gather(*(search(part) for part in parts))
            found = await asyncio.to_thread(
                _merge, parts, answers, options, (width, height), grid.max_box_iou
            )
        chosen = [mask for mask in found if mask.area >= request.options.min_area]
        chosen = sorted(chosen[: grid.max_masks or None], key=_size, reverse=True)
        answer = segmentation_pb2.SegmentEverythingResponse(
            width=width,
            height=height,
            masks=chosen,
            trace_id=current_trace_id(),
        )
        click.did(telemetry.RESPOND)
        return answer


def _size(mask: types_pb2.FoundMask) -> int:
    return mask.area


def _pixels(image: Image, limit: PixelLimit) -> ByteArray:
    if isinstance(image, EncodedImage):
        return decode_picture(image.data, limit, field="image")
    return image.pixels


def _merge(
    parts: Sequence[Part],
    answers: Sequence[Sequence[types_pb2.FoundMask]],
    options: MaskOptions,
    size: tuple[int, int],
    max_box_iou: float,
) -> list[types_pb2.FoundMask]:
    """The masks of all parts in the pixels of the image, the most confident first.

    Of masks of several parts that repeat one another the one from the smallest part stays, because it is the
    most exact.
    """
    width, height = size
    candidates: list[tuple[int, float, Box, Part, types_pb2.FoundMask]] = []
    for part, found in zip(parts, answers, strict=True):
        for mask in found:
            box = Box(
                mask.box.x0 + part.x0, mask.box.y0 + part.y0, mask.box.x1 + part.x0, mask.box.y1 + part.y0
            )
            if not _is_cut_off(box, part, width, height):
                candidates.append((part.area, -mask.predicted_iou, box, part, mask))
    candidates.sort(key=lambda candidate: candidate[:2])
    kept: list[tuple[Box, Part, types_pb2.FoundMask]] = []
    for _, _, box, part, mask in candidates:
        if all(_iou(box, other) <= max_box_iou for other, _, _ in kept):
            kept.append((box, part, mask))
    kept.sort(key=lambda entry: -entry[2].predicted_iou)
    return [_moved(mask, box, part, options, size) for box, part, mask in kept]


def _is_cut_off(box: Box, part: Part, width: int, height: int) -> bool:
    """Whether a box reaches an edge of its part that is no edge of the image."""
    sides = ((box.x0, part.x0, 0), (box.y0, part.y0, 0), (box.x1, part.x1, width), (box.y1, part.y1, height))
    return any(abs(at - edge) <= EDGE_PIXELS and edge != end for at, edge, end in sides)


def _iou(first: Box, second: Box) -> float:
    x = max(0.0, min(first.x1, second.x1) - max(first.x0, second.x0))
    y = max(0.0, min(first.y1, second.y1) - max(first.y0, second.y0))
    areas = [(box.x1 - box.x0) * (box.y1 - box.y0) for box in (first, second)]
    return x * y / max(areas[0] + areas[1] - x * y, 1e-6)


def _moved(
    found: types_pb2.FoundMask, box: Box, part: Part, options: MaskOptions, size: tuple[int, int]
) -> types_pb2.FoundMask:
    """A mask of a part as one of the whole image, in the requested form."""
    whole: BoolArray = np.zeros((size[1], size[0]), dtype=bool)
    decoded = wire.mask_from_proto(found.mask)
    whole[part.y0 : part.y1, part.x0 : part.x1] = decoded.decode()  # type: ignore[union-attr]
    form = BINARY_FORMS[options.format]
    mask = PolygonMask.encode(whole, options.polygon_tolerance) if form is PolygonMask else form.encode(whole)
    return types_pb2.FoundMask(
        mask=wire.mask_to_proto(mask),
        box=wire.box_to_proto(box),
        predicted_iou=found.predicted_iou,
        stability=found.stability,
        x=found.x + part.x0,
        y=found.y + part.y0,
        area=found.area,
    )
