"""AddPrompt: encodes the frame if the session has no embedding, and sends the prompt to the tracker."""

import uuid

from gateway.backends.encoders import EncodeOptions, Encoders
from gateway.backends.image_encoding import MAX_ATTEMPTS, raise_after_last
from gateway.sessions.click_trace import ClickTrace
from gateway.sessions.frame_embeddings import frame_embedding
from gateway.sessions.session import GatewaySession
from gateway.sessions.session_router import SessionRouter
from maskmesh import telemetry, wire
from maskmesh.errors import EmbeddingNotFound
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
    frames, index = session.frames, request.frame_index
    _validate(session, request)
    await session.caller.count_interactive_frame()
    options = EncodeOptions(interactive=True, tenant=session.caller.tenant, timeout=timeout)
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
    for attempt in range(MAX_ATTEMPTS):
        encoded = await frame_embedding(session, encoders, index, options)
        click.encoded(encoded)
        message.embedding.CopyFrom(wire.embedding_ref_to_proto(encoded.ref))
        if encoded.work is not None:
            click.mark(encoded.ready_ns)
            click.did(telemetry.PREPARE)
        try:
            timed = await router.timed_call(session, "AddPrompt", message, timeout)
            break
        except EmbeddingNotFound as error:
            session.drop_ref(index)
            raise_after_last(attempt, error)
    click.mark(timed.received_ns)
    response = timed.message
    click.work.add_records(timed.transfers).add(wire.work_from_proto(response.work))
    frame = types_pb2.FrameMasks(
        frame_index=index,
        objects=[response.mask],
        trace_id=current_trace_id(),
        conditioning=True,
        width=frames.width,
        height=frames.height,
        stage_times=wire.stage_times_to_proto(
            add_seconds(click.stage_seconds, wire.stage_seconds_from_proto(response.stage_times))
        ),
    )
    wire.fill_frame_time(frame, frames.time(index), repeats_previous=frames.repeats_previous(index))
    answer = segmentation_pb2.AddPromptResponse(frame=frame, revision=response.revision)
    click.did(telemetry.RESPOND)
    return answer


def expected_revision(
    request: segmentation_pb2.AddPromptRequest
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
