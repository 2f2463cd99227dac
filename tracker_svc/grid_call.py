"""SegmentGrid: the objects of one image from a grid of points."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from maskmesh import telemetry, wire
from maskmesh.internal.v1 import tracker_pb2
from maskmesh.masks import BinaryMask, MaskFormat, MaskOptions
from maskmesh.rpc.server_interceptor import received_ns
from maskmesh.scheduling.admission import Priority, QueueEntry
from maskmesh.telemetry import StageRecorder
from maskmesh.v1 import types_pb2
from tracker_svc.components import Components
from tracker_svc.compute.grid_masks import (
    GridMasks,
    GridOptions,
    batches,
    joined,
    masks_at,
    without_repetitions,
)
from tracker_svc.compute.mask_output import object_masks
from tracker_svc.compute.step import Frame
from tracker_svc.memory.frame_state import FrameState

# Masks that one job converts to the requested form.
MASKS_PER_JOB = 8


async def segment_grid(
    components: Components, request: tracker_pb2.SegmentGridRequest
) -> tracker_pb2.SegmentGridResponse:
    """Carry out SegmentGrid; the proto lists its errors.

    Batches of points and of masks are jobs of their own with the priority of read-ahead, so clicks come
    first.
    """
    tracker = components.tracker
    recorder = tracker.recorder()
    with recorder.handling(telemetry.PREPARE, received_ns()):
        ref = wire.embedding_ref_from_proto(request.embedding)
        mask_options = wire.mask_options_from_proto(request.mask_options)
        options = GridOptions(*wire.grid_options_from_proto(request.options))
    frame = await components.embeddings.get(ref)
    run = partial(components.worker.run, recorder=recorder, entry=QueueEntry(Priority.AHEAD, ref.tenant))
    try:
        kept: GridMasks | None = None
        for points in batches(options.points_per_side):
            kept = await run(partial(_search, components, frame, points, options, recorder, kept))
        assert kept is not None, "a grid has points"
        kept = await run(partial(_choose, kept, options, recorder))
        masks: list[types_pb2.FoundMask] = []
        for indices in torch.arange(len(kept.logits)).split(MASKS_PER_JOB):
            if options.max_masks and len(masks) >= options.max_masks:
                break
            masks += await run(partial(_convert, kept.rows(indices), options, mask_options, frame, recorder))
        del masks[options.max_masks or len(masks) :]
        with recorder.handling(telemetry.RESPOND):
            return tracker_pb2.SegmentGridResponse(
                masks=masks, work=wire.work_to_proto(telemetry.WorkSummary().add_records(recorder.records))
            )
    finally:
        telemetry.emit_soon(recorder.records, None)


def _search(
    components: Components,
    frame: Frame,
    points: Tensor,
    options: GridOptions,
    recorder: StageRecorder,
    kept: GridMasks | None,
) -> GridMasks:
    """The masks of a batch of points, with those of the batches before; runs on the device's thread."""
    found = masks_at(components.tracker.model, frame, points, options, recorder)
    if kept is None:
        return found
    with recorder.stage(telemetry.POSTPROCESS):
        return joined((kept, found))


def _choose(found: GridMasks, options: GridOptions, recorder: StageRecorder) -> GridMasks:
    """The masks without those that repeat another one; runs on the device's thread."""
    with recorder.stage(telemetry.POSTPROCESS):
        return without_repetitions(found, options)


def _convert(
    kept: GridMasks,
    options: GridOptions,
    mask_options: MaskOptions,
    frame: Frame,
    recorder: StageRecorder,
) -> list[types_pb2.FoundMask]:
    """Masks that are large enough, in the requested form; runs on the device's thread."""
    with recorder.stage(telemetry.POSTPROCESS):
        return [mask for mask in _found(kept, mask_options, frame) if mask.area >= options.min_area]


def _found(kept: GridMasks, mask_options: MaskOptions, frame: Frame) -> Iterator[types_pb2.FoundMask]:
    states = [
        FrameState(logits[None], iou, 1.0, None)
        for logits, iou in zip(kept.logits, kept.predicted_ious.tolist(), strict=True)
    ]
    masks = object_masks(range(len(states)), states, mask_options, width=frame.width, height=frame.height)
    height, width = kept.logits.shape[1:]
    pixels_each = frame.width * frame.height / (width * height)
    for mask, logits, stability, (x, y) in zip(
        masks, kept.logits, kept.stabilities.tolist(), kept.points.tolist(), strict=True
    ):
        if mask.box is None:  # everything was removed as a speck
            continue
        # Simplified polygons have another area than their mask.
        is_exact = mask_options.is_upsampled and mask_options.format is not MaskFormat.POLYGONS
        yield types_pb2.FoundMask(
            mask=wire.mask_to_proto(mask.mask),
            box=wire.box_to_proto(mask.box),
            predicted_iou=mask.predicted_iou,
            stability=stability,
            x=x * frame.width,
            y=y * frame.height,
            area=_pixels(mask.mask) if is_exact else round(int((logits > 0).sum()) * pixels_each),
        )


def _pixels(mask: object) -> int:
    assert isinstance(mask, BinaryMask), "masks are upsampled"
    return int(mask.decode().sum())
