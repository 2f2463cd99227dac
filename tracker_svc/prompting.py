"""Prompts: on an image that belongs to no session, and on frames of one."""

import asyncio
from collections.abc import Callable
from typing import Any

from maskmesh import telemetry, wire
from maskmesh.errors import InvalidRequest
from maskmesh.history import PromptRecord
from maskmesh.internal.v1 import tracker_pb2
from maskmesh.scheduling.admission import QueueEntry
from maskmesh.types import ObjectMask
from tracker_svc.components import Components
from tracker_svc.compute.output import object_masks
from tracker_svc.memory.frame_state import FrameState
from tracker_svc.memory.memory_horizon import check_promptable
from tracker_svc.sessions.objects import check_logits_size, check_mask_size, combine
from tracker_svc.sessions.session import Session

Changed = Callable[[tracker_pb2.AddPromptResponse], None]
"""Told, while the session is locked, that a prompt was taken in, and what will be answered."""


async def segment_image(
    components: Components, request: tracker_pb2.SegmentImageRequest
) -> tracker_pb2.SegmentImageResponse:
    """See the proto of SegmentImage."""
    ref = wire.embedding_ref_from_proto(request.embedding)
    options = wire.mask_options_from_proto(request.mask_options)
    prompts = [
        wire.prompt_from_proto(
            p.prompt,
            width=ref.image_width,
            height=ref.image_height,
            field=f"prompts[{i}].prompt",
        )
        for i, p in enumerate(request.prompts)
    ]
    for i, prompt in enumerate(prompts):
        size = components.tracker.model.image_size // 4
        check_logits_size(prompt, size=size, field=f"prompts[{i}].prompt")
    frame = await components.embeddings.get(ref)
    recorder = components.tracker.recorder(object__count=len(prompts))

    def segment() -> list[ObjectMask]:
        states = components.tracker.segment_image(
            frame, prompts, multimask_output=request.multimask_output, recorder=recorder
        )
        obj_ids = [p.obj_id for p, found in zip(request.prompts, states, strict=True) for _ in found]
        with recorder.stage(telemetry.POSTPROCESS):
            return object_masks(
                obj_ids,
                [state for found in states for state in found],
                options,
                width=frame.width,
                height=frame.height,
            )

    try:
        masks = await components.worker.run(segment, recorder=recorder, ticket=QueueEntry(tenant=ref.tenant))
    finally:
        telemetry.emit_soon(recorder.records, None)
    return tracker_pb2.SegmentImageResponse(masks=[wire.object_mask_to_proto(mask) for mask in masks])


async def add_prompt(
    components: Components, session: Session, request: tracker_pb2.AddPromptRequest, changed: Changed
) -> tracker_pb2.AddPromptResponse:
    """See the proto of AddPrompt."""
    ref = wire.embedding_ref_from_proto(request.embedding)
    options = wire.mask_options_from_proto(request.mask_options)
    if request.frame_index < 0:
        raise InvalidRequest("frames count from 0", field="frame_index")
    size = {"width": ref.image_width, "height": ref.image_height}
    new = wire.prompt_from_proto(request.prompt, field="prompt", **size)
    if new.mask is not None:
        await asyncio.to_thread(check_mask_size, new, **size)
    index, obj_id = request.frame_index, request.obj_id
    said = PromptRecord(index, obj_id, new, request.clear_previous)
    recorder = components.tracker.recorder(
        frame__index=index, frame__kind=telemetry.CONDITIONING, object__count=1
    )
    # Before its turn: the others need not wait for the encoder.
    frame = await components.embeddings.get(ref)
    async with session.in_turn(recorder):
        components.registry.check(session)
        session.check_revision(expected_revision(request))
        obj = session.find_or_make(obj_id)
        combined = combine(obj.prompts.get(index), new, clear_previous=said.clear_previous)
        session.check_promptable(obj, index)
        await asyncio.to_thread(check_promptable, obj, index)

        def add() -> tuple[FrameState, ObjectMask]:
            state = components.tracker.prompt(
                obj, index, combined, frame,
                clear_previous=said.clear_previous, recorder=recorder,
            )  # fmt: skip
            with recorder.stage(telemetry.POSTPROCESS):
                shown = {obj_id: state}
                if options.non_overlapping:
                    shown |= _others(session, obj_id, index)
                masks = object_masks(list(shown), list(shown.values()), options, **size)
            return state, masks[0]

        try:
            state, mask = await components.worker.run(add, recorder=recorder, ticket=QueueEntry(tenant=ref.tenant))
        finally:
            telemetry.emit_soon(recorder.records, None)
        # Nothing can fail from here on: all of it is taken in, or none.
        session.add_prompt(obj, said, combined, state, ref)
        response = tracker_pb2.AddPromptResponse(
            mask=wire.object_mask_to_proto(mask),
            revision=session.revision,
            stage_times=wire.stage_times_to_proto(telemetry.stage_seconds(recorder.records)),
        )
        changed(response)
    await components.registry.flush(session)
    return response


def expected_revision(request: Any) -> int | None:
    """The revision that a caller expects, None for any."""
    return request.expected_revision if request.HasField("expected_revision") else None


def _others(session: Session, obj_id: int, frame_index: int) -> dict[int, FrameState]:
    """What is known of the other objects on a frame."""
    known = {o.obj_id: o.bank.current(frame_index) for o in session.objects.values() if o.obj_id != obj_id}
    return {other: state for other, state in known.items() if state is not None}
