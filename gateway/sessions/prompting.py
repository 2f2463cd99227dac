"""AddPrompt and AddConcept: encode the frame if the session has no embedding, and ask the tracker."""

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from gateway.backends.encoders import EncodeOptions, Encoders
from gateway.backends.image_encoding import MAX_ATTEMPTS, raise_after_last
from gateway.sessions.click_trace import ClickTrace
from gateway.sessions.frame_embeddings import frame_embedding
from gateway.sessions.session import GatewaySession
from gateway.sessions.session_router import SessionRouter
from maskmesh import telemetry, wire
from maskmesh.errors import EmbeddingNotFound, InvalidPrompt
from maskmesh.internal.v1 import tracker_pb2
from maskmesh.rpc.client_calls import current_trace_id
from maskmesh.telemetry import add_seconds
from maskmesh.v1 import segmentation_pb2, types_pb2


async def add_prompt(
    encoders: Encoders,
    router: SessionRouter,
    session: GatewaySession,
    request: segmentation_pb2.AddPromptRequest,
    timeout: float | None,
    *,
    start_ns: int,
) -> segmentation_pb2.AddPromptResponse:
    """Carry out AddPrompt; the proto lists its errors.  ``start_ns`` is when the call was received."""
    with ClickTrace(start_ns=start_ns, tenant=session.caller.tenant, num_objects=1) as click:
        return await _add_prompt(encoders, router, session, request, timeout, click)


async def _add_prompt(
    encoders: Encoders,
    router: SessionRouter,
    session: GatewaySession,
    request: segmentation_pb2.AddPromptRequest,
    timeout: float | None,
    click: ClickTrace,
) -> segmentation_pb2.AddPromptResponse:
    index = request.frame_index
    _validate(session, request)
    await session.caller.count_interactive_frame()
    message = tracker_pb2.AddPromptRequest(
        session_id=session.session_id,
        frame_index=index,
        obj_id=request.obj_id,
        prompt=request.prompt,
        clear_previous=request.clear_previous,
        mask_options=request.mask_options,
        # A key is always set, because the request may be retried on another tracker.
        idempotency_key=request.idempotency_key or uuid.uuid4().hex,
        expected_revision=expected_revision(request),
    )
    click.did(telemetry.PREPARE)
    response = await _call_on_frame(encoders, router, session, "AddPrompt", message, timeout, click)
    frame = _frame_masks(session, index, [response.mask], response.stage_times, click)
    frame.conditioning = True
    answer = segmentation_pb2.AddPromptResponse(frame=frame, revision=response.revision)
    click.did(telemetry.RESPOND)
    return answer


async def add_concept(
    encoders: Encoders,
    router: SessionRouter,
    session: GatewaySession,
    request: segmentation_pb2.AddConceptRequest,
    timeout: float | None,
    *,
    start_ns: int,
) -> segmentation_pb2.AddConceptResponse:
    """Carry out AddConcept; the proto lists its errors.  ``start_ns`` is when the call was received."""
    with ClickTrace(start_ns=start_ns, tenant=session.caller.tenant, num_objects=0) as click:
        _validate_concept(session, request)
        message = tracker_pb2.AddConceptRequest(
            session_id=session.session_id,
            concept_id=request.concept_id,
            concept=request.concept,
            options=request.options,
            mask_options=request.mask_options,
            idempotency_key=request.idempotency_key or uuid.uuid4().hex,
            expected_revision=expected_revision(request),
            first_obj_id=request.first_obj_id,
        )
        click.did(telemetry.PREPARE)
        if not request.HasField("frame_index"):
            timed = await router.timed_call(session, "AddConcept", message, timeout)
            click.mark(timed.received_ns)
            click.work.add_records(timed.transfers).add(wire.work_from_proto(timed.message.work))
            return segmentation_pb2.AddConceptResponse(
                revision=timed.message.revision, first_obj_id=timed.message.first_obj_id
            )
        await session.caller.count_interactive_frame()
        message.frame_index = request.frame_index
        response = await _call_on_frame(encoders, router, session, "AddConcept", message, timeout, click)
        frame = _frame_masks(session, request.frame_index, response.masks, response.stage_times, click)
        frame.new_obj_ids.extend(mask.obj_id for mask in response.masks)
        answer = segmentation_pb2.AddConceptResponse(
            frame=frame, revision=response.revision, first_obj_id=response.first_obj_id
        )
        click.did(telemetry.RESPOND)
        return answer


async def _call_on_frame(
    encoders: Encoders,
    router: SessionRouter,
    session: GatewaySession,
    method: str,
    message: tracker_pb2.AddPromptRequest | tracker_pb2.AddConceptRequest,
    timeout: float | None,
    click: ClickTrace,
) -> Any:
    """The tracker's response to a message with the embedding of its frame, which is encoded if necessary."""
    options = EncodeOptions(interactive=True, tenant=session.caller.tenant, timeout=timeout)
    for attempt in range(MAX_ATTEMPTS):
        encoded = await frame_embedding(session, encoders, message.frame_index, options)
        click.encoded(encoded)
        message.embedding.CopyFrom(wire.embedding_ref_to_proto(encoded.ref))
        if encoded.work is not None:
            click.mark(encoded.ready_ns)
            click.did(telemetry.PREPARE)
        try:
            timed = await router.timed_call(session, method, message, timeout)
            break
        except EmbeddingNotFound as error:
            session.drop_ref(message.frame_index)
            raise_after_last(attempt, error)
    click.mark(timed.received_ns)
    click.work.add_records(timed.transfers).add(wire.work_from_proto(timed.message.work))
    return timed.message


def _frame_masks(
    session: GatewaySession,
    frame_index: int,
    masks: Iterable[types_pb2.ObjectMask],
    stage_times: Sequence[types_pb2.StageTime],
    click: ClickTrace,
) -> types_pb2.FrameMasks:
    """The masks of a frame for the client."""
    frames = session.frames
    frame = types_pb2.FrameMasks(
        frame_index=frame_index,
        objects=masks,
        trace_id=current_trace_id(),
        width=frames.width,
        height=frames.height,
        stage_times=wire.stage_times_to_proto(
            add_seconds(click.stage_seconds, wire.stage_seconds_from_proto(stage_times))
        ),
    )
    wire.fill_frame_time(
        frame, frames.time(frame_index), repeats_previous=frames.repeats_previous(frame_index)
    )
    return frame


def expected_revision(
    request: segmentation_pb2.AddPromptRequest
    | segmentation_pb2.AddConceptRequest
    | segmentation_pb2.RemoveConceptRequest
    | segmentation_pb2.ClearPromptsRequest
    | segmentation_pb2.RemoveObjectRequest
    | segmentation_pb2.ResetSessionRequest,
) -> int | None:
    """The revision that a caller expects, None for any."""
    return request.expected_revision if request.HasField("expected_revision") else None


def _validate(session: GatewaySession, request: segmentation_pb2.AddPromptRequest) -> None:
    """Refuse an invalid prompt before its frame is encoded; the tracker validates it again."""
    frames = session.frames
    frames.check_index(request.frame_index)
    wire.mask_options_from_proto(request.mask_options)
    wire.prompt_from_proto(
        request.prompt,
        width=frames.width,
        height=frames.height,
        field="prompt",
        pixel_aspect=frames.pixel_aspect,
    )


def _validate_concept(session: GatewaySession, request: segmentation_pb2.AddConceptRequest) -> None:
    """Refuse an invalid concept before its frame is encoded; the tracker validates it again."""
    frames = session.frames
    wire.mask_options_from_proto(request.mask_options)
    wire.concept_options_from_proto(request.options, live=session.is_live)
    wire.check_first_obj_id(request.first_obj_id)
    if request.HasField("frame_index"):
        frames.check_index(request.frame_index)
        wire.concept_from_proto(request.concept, width=frames.width, height=frames.height)
        return
    wire.check_concept(request.concept)
    if request.concept.exemplars:
        raise InvalidPrompt("a concept with exemplars needs the frame that they are on", field="frame_index")
