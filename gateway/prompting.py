"""A prompt on a frame of a session: encoded if it never was, then said to the tracker."""

import uuid
from functools import partial

from gateway.backends.embeddings import frame_ref, with_embedding
from gateway.backends.encoders import Encoders, EncodeOptions
from gateway.backends.tracker_backend import at_epoch
from gateway.sessions.session import GatewaySession
from gateway.sessions.session_router import SessionRouter
from maskmesh import wire
from maskmesh.internal.v1 import tracker_pb2
from maskmesh.rpc.interceptors import current_trace_id
from maskmesh.telemetry import add_seconds
from maskmesh.types import EmbeddingRef
from maskmesh.v1 import segmentation_pb2, types_pb2


class Prompter:
    """Prompts objects of one gateway's sessions."""

    def __init__(self, encoder: Encoders, router: SessionRouter) -> None:
        self._encoder = encoder
        self._router = router

    async def prompt(
        self,
        session: GatewaySession,
        request: segmentation_pb2.AddPromptRequest,
        timeout: float | None,
        *,
        field: str = "prompt",
    ) -> segmentation_pb2.AddPromptResponse:
        """Prompt one object on one frame; ``field`` is where the prompt stands in the client's message.

        Raises what AddPrompt says in the proto.
        """
        frames, index = session.frames, request.frame_index
        frames.check_index(index)
        # Before anything is encoded for nothing; the tracker judges them again.
        wire.mask_options_from_proto(request.mask_options)
        wire.prompt_from_proto(request.prompt, width=frames.width, height=frames.height, field=field)
        await session.caller.count_frame()
        encode_options = EncodeOptions(interactive=True, tenant=session.caller.tenant, timeout=timeout)
        encoding: list[dict[str, float]] = []
        own_key = uuid.uuid4().hex

        async def obtain() -> EmbeddingRef:
            encoded = await frame_ref(session, self._encoder, index, encode_options)
            encoding.append(dict(encoded.stage_seconds))
            return encoded.ref

        async def use(ref: EmbeddingRef) -> tracker_pb2.AddPromptResponse:
            message = tracker_pb2.AddPromptRequest(
                session_id=session.session_id,
                frame_index=index,
                obj_id=request.obj_id,
                prompt=request.prompt,
                clear_previous=request.clear_previous,
                mask_options=request.mask_options,
                embedding=wire.embedding_ref_to_proto(ref),
                # With a key of its own where the client gave none: it may be said to a second tracker.
                idempotency_key=request.idempotency_key or own_key,
            )
            if request.HasField("expected_revision"):
                message.expected_revision = request.expected_revision
            return await self._router.call(
                session, lambda tracker, epoch: tracker.add_prompt(at_epoch(message, epoch), timeout)
            )

        answer = await with_embedding(obtain, use, partial(session.forget_ref, index))
        seconds = add_seconds(*encoding, wire.stage_seconds_from_proto(answer.stage_times))
        frame = types_pb2.FrameMasks(
            frame_index=index,
            objects=[answer.mask],
            trace_id=current_trace_id(),
            conditioning=True,
            width=frames.width,
            height=frames.height,
            stage_times=wire.stage_times_to_proto(seconds),
        )
        return segmentation_pb2.AddPromptResponse(frame=frame, revision=answer.revision)
