"""SegmentImage and AddPrompt: prompts on an image without a session, and on a frame of a session."""

import asyncio
import time

from maskmesh import telemetry, wire
from maskmesh.errors import InvalidRequest
from maskmesh.history import PromptRecord
from maskmesh.internal.v1 import tracker_pb2
from maskmesh.rpc.server_interceptor import received_ns
from maskmesh.scheduling.admission import QueueEntry
from maskmesh.telemetry import StageRecorder
from maskmesh.types import ObjectMask
from tracker_svc.components import Components
from tracker_svc.compute.image_masks import image_masks
from tracker_svc.compute.mask_output import object_masks, of_concept
from tracker_svc.memory.frame_state import FrameState
from tracker_svc.memory.memory_horizon import require_history_for_prompt
from tracker_svc.sessions.prompts import check_logits_size, check_mask_size, combine, expected_revision
from tracker_svc.sessions.session import Session


async def segment_image(
    components: Components, request: tracker_pb2.SegmentImageRequest
) -> tracker_pb2.SegmentImageResponse:
    """Carry out SegmentImage; the proto lists its errors."""
    tracker = components.tracker
    recorder = tracker.recorder({telemetry.OBJECT_COUNT: len(request.prompts)})
    ref = wire.embedding_ref_from_proto(request.embedding)
    options = wire.mask_options_from_proto(request.mask_options)
    prompts = []
    for i, p in enumerate(request.prompts):
        field = f"prompts[{i}].prompt"
        prompt = wire.prompt_from_proto(p.prompt, width=ref.image_width, height=ref.image_height, field=field)
        check_logits_size(prompt, size=tracker.model.low_res_size, field=field)
        prompts.append(prompt)
    recorder.add(telemetry.PREPARE, received_ns(), time.time_ns())
    frame = await components.embeddings.get(ref)

    def segment() -> list[ObjectMask]:
        states = image_masks(
            tracker.model, frame, prompts, multimask_output=request.multimask_output, recorder=recorder
        )
        obj_ids = [
            p.obj_id for p, alternatives in zip(request.prompts, states, strict=True) for _ in alternatives
        ]
        with recorder.stage(telemetry.POSTPROCESS):
            return object_masks(
                obj_ids,
                [state for alternatives in states for state in alternatives],
                options,
                width=frame.width,
                height=frame.height,
            )

    try:
        masks = await components.worker.run(segment, recorder=recorder, entry=QueueEntry(tenant=ref.tenant))
        with recorder.handling(telemetry.RESPOND):
            return tracker_pb2.SegmentImageResponse(
                masks=[wire.object_mask_to_proto(mask) for mask in masks],
                work=wire.work_to_proto(telemetry.WorkSummary().add_records(recorder.records)),
            )
    finally:
        telemetry.emit_soon(recorder.records, None)


async def add_prompt(
    components: Components, session: Session, request: tracker_pb2.AddPromptRequest, *, start_ns: int
) -> tracker_pb2.AddPromptResponse:
    """Carry out AddPrompt; the proto lists its errors.  ``start_ns`` is when the call was received."""
    recorder = components.tracker.recorder(
        {
            telemetry.FRAME_INDEX: request.frame_index,
            telemetry.FRAME_KIND: telemetry.CONDITIONING,
            telemetry.OBJECT_COUNT: 1,
        }
    )
    try:
        return await _add_prompt(components, session, request, recorder, start_ns=start_ns)
    finally:
        telemetry.emit_soon(recorder.records, None)


async def _add_prompt(
    components: Components,
    session: Session,
    request: tracker_pb2.AddPromptRequest,
    recorder: StageRecorder,
    *,
    start_ns: int,
) -> tracker_pb2.AddPromptResponse:
    tracker = components.tracker
    ref = wire.embedding_ref_from_proto(request.embedding)
    options = wire.mask_options_from_proto(request.mask_options)
    if request.frame_index < 0:
        raise InvalidRequest("the frame index must not be negative", field="frame_index")
    size = {"width": ref.image_width, "height": ref.image_height}
    prompt = wire.prompt_from_proto(request.prompt, field="prompt", **size)
    if prompt.mask is not None:
        await asyncio.to_thread(check_mask_size, prompt, **size)
    record = PromptRecord(request.frame_index, request.obj_id, prompt, request.clear_previous)
    recorder.add(telemetry.PREPARE, start_ns, time.time_ns())
    # The lock is taken after the fetch, so that other calls of the session do not wait for the encoder.
    frame = await components.embeddings.get(ref)
    async with session.locked(recorder):
        with recorder.handling(telemetry.PREPARE):
            session.require_open()
            session.check_revision(expected_revision(request))
            obj = session.find_or_make(record.obj_id)
            clear_previous = record.clear_previous
            combined = combine(obj.prompts.get(record.frame_index), prompt, clear_previous=clear_previous)
            session.require_prompt_slot(obj, record.frame_index)
            await asyncio.to_thread(require_history_for_prompt, obj, record.frame_index)

        def decode() -> tuple[FrameState, ObjectMask]:
            state = tracker.prompt(
                obj, record.frame_index, combined, frame,
                clear_previous=clear_previous, recorder=recorder,
            )  # fmt: skip
            with recorder.stage(telemetry.POSTPROCESS):
                states = {obj.obj_id: state}
                if options.non_overlapping:
                    states = session.states_on(record.frame_index) | states
                    states = {obj.obj_id: states.pop(obj.obj_id)} | states
                mask = object_masks(list(states), list(states.values()), options, **size)[0]
                return state, of_concept(mask, obj, state)

        state, mask = await components.worker.run(
            decode, recorder=recorder, entry=QueueEntry(tenant=ref.tenant)
        )
        # Nothing below can fail: a prompt is added completely or not at all.
        with recorder.handling(telemetry.COMMIT):
            session.add_prompt(obj, record, combined, state, ref)
            response = tracker_pb2.AddPromptResponse(
                mask=wire.object_mask_to_proto(mask),
                revision=session.revision,
                stage_times=wire.stage_times_to_proto(telemetry.stage_seconds(recorder.records)),
                work=wire.work_to_proto(telemetry.WorkSummary().add_records(recorder.records)),
            )
            session.record_change(request.idempotency_key, response)
    await session.flush(recorder)
    return response
