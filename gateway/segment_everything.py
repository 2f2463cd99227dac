"""SegmentEverything: all objects of one image, also of its parts."""

import asyncio
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.api_keys import current_caller
from gateway.image_call import ImageCalls
from gateway.sessions.click_trace import ClickTrace
from maskmesh import telemetry, wire
from maskmesh.errors import InvalidRequest
from maskmesh.internal.v1 import tracker_pb2
from maskmesh.masks import BINARY_FORMS, BoolArray, ByteArray, MaskFormat, MaskOptions, PolygonMask
from maskmesh.media.pictures import PixelLimit, decode_picture
from maskmesh.rpc.client_calls import current_trace_id
from maskmesh.types import Box, EncodedImage, Image, RawImage
from maskmesh.v1 import segmentation_pb2, types_pb2

# How much parts of the image overlap, as a share of its shorter side at the first layer.  Masks that reach an
# edge of their part within this many pixels are cut off there, and left out.
OVERLAP = 512 / 1500
EDGE_PIXELS = 20.0

# Parts with a shorter side are not searched: their objects are found in the larger ones.
MIN_PART_PIXELS = 32

# The largest number of masks if the request has no limit.
MAX_MASKS = 1024


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
    """The whole image, then for layer n the 4^n parts of a grid that overlap, unless they are too small.

    Source: the crops of the reference implementation of SAM.
    """
    yield Part(0, 0, width, height)
    for layer in range(1, layers + 1):
        per_side = 2**layer
        overlap = int(OVERLAP * min(width, height) * 2 / per_side)
        sides = [math.ceil((overlap * (per_side - 1) + length) / per_side) for length in (width, height)]
        if min(sides) < MIN_PART_PIXELS:
            return
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
        if options.non_overlapping:
            raise InvalidRequest(
                "parts of objects are objects too, and overlap them", field="mask_options.non_overlapping"
            )
        grid = wire.grid_options_from_proto(request.options)
        message = tracker_pb2.SegmentGridRequest(options=request.options, mask_options=request.mask_options)
        if not request.options.crop_layers:
            ref, response = await calls.call(
                "SegmentGrid", message, image, click, check=lambda ref: None, timeout=timeout
            )
            found, width, height = list(response.message.masks), ref.image_width, ref.image_height
        else:
            _check_options(options)
            pixels = await asyncio.to_thread(_pixels, image, limit)
            height, width = pixels.shape[:2]
            parts = list(parts_of(width, height, request.options.crop_layers))
            answers = [await _search(part, pixels, message, options, calls, click, timeout) for part in parts]
            found = await asyncio.to_thread(_merge, parts, answers, options, (width, height), grid)
        found.sort(key=_size, reverse=True)
        answer = segmentation_pb2.SegmentEverythingResponse(
            width=width, height=height, masks=found, trace_id=current_trace_id()
        )
        click.did(telemetry.RESPOND)
        return answer


def _check_options(options: MaskOptions) -> None:
    """Refuse what the masks of several parts cannot have."""
    if options.format is MaskFormat.LOW_RES_LOGITS:
        raise InvalidRequest(
            "with crop_layers, masks have the size of the image, and logits do not",
            field="mask_options.format",
        )
    if not options.is_upsampled:
        raise InvalidRequest("with crop_layers, masks have the size of the image", field="mask_options.space")


async def _search(
    part: Part,
    pixels: ByteArray,
    message: tracker_pb2.SegmentGridRequest,
    options: MaskOptions,
    calls: ImageCalls,
    click: ClickTrace,
    timeout: float | None,
) -> list[types_pb2.FoundMask]:
    """The masks of one part, in its own pixels."""
    own = tracker_pb2.SegmentGridRequest()
    own.CopyFrom(message)
    own.mask_options.CopyFrom(
        wire.mask_options_to_proto(
            MaskOptions(
                fill_holes_area=options.fill_holes_area, remove_specks_area=options.remove_specks_area
            )
        )
    )
    own.options.max_masks = 0  # masks of all parts are compared first
    cut = np.ascontiguousarray(pixels[part.y0 : part.y1, part.x0 : part.x1])
    _, response = await calls.call(
        "SegmentGrid", own, RawImage(cut), click, check=lambda ref: None, timeout=timeout, interactive=False
    )
    return list(response.message.masks)


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
    grid: wire.GridValues,
) -> list[types_pb2.FoundMask]:
    """The masks of all parts in the pixels of the image, the most confident ones.

    Of masks of several parts that repeat one another the one from the smallest part stays, because it is the
    most exact.
    """
    candidates: list[tuple[Box, Part, types_pb2.FoundMask]] = []
    for part, found in zip(parts, answers, strict=True):
        for mask in found:
            box = Box(
                mask.box.x0 + part.x0, mask.box.y0 + part.y0, mask.box.x1 + part.x0, mask.box.y1 + part.y0
            )
            if not _is_cut_off(box, part, *size):
                candidates.append((box, part, mask))
    candidates.sort(key=lambda each: (each[1].area, -each[2].predicted_iou))
    boxes = np.array([(box.x0, box.y0, box.x1, box.y1) for box, _, _ in candidates]).reshape(-1, 4)
    kept = [candidates[index] for index in _not_repeated(boxes, grid.max_box_iou)]
    kept.sort(key=lambda each: -each[2].predicted_iou)
    return [_moved(mask, box, part, options, size) for box, part, mask in kept[: grid.max_masks or MAX_MASKS]]


def _not_repeated(boxes: NDArray[np.float64], max_iou: float) -> list[int]:
    """The indices of boxes that do not overlap an earlier one that is kept by more than ``max_iou``.

    boxes: [N, 4], x0, y0, x1, y1.
    """
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    kept: list[int] = []
    for index, box in enumerate(boxes):
        others = boxes[kept]
        common = np.minimum(others[:, 2:], box[2:]) - np.maximum(others[:, :2], box[:2])
        shared = common.clip(min=0).prod(axis=1)
        if (shared <= max_iou * (areas[kept] + areas[index] - shared)).all():
            kept.append(index)
    return kept


def _is_cut_off(box: Box, part: Part, width: int, height: int) -> bool:
    """Whether a box reaches an edge of its part that is no edge of the image."""
    sides = ((box.x0, part.x0, 0), (box.y0, part.y0, 0), (box.x1, part.x1, width), (box.y1, part.y1, height))
    return any(abs(at - edge) <= EDGE_PIXELS and edge != end for at, edge, end in sides)


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
