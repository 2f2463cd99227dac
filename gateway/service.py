"""SegmentationService over gRPC: messages to values and back, and who is asked for what."""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import grpc
from opentelemetry import trace

from gateway.backends import EncoderBackend, TrackerBackend, Urgency
from gateway.config import GatewaySettings
from gateway.embeddings import encode_image, frame_ref, with_embedding
from gateway.frame_store import Addition, FrameLimits
from gateway.pipeline import Extent, Propagation
from gateway.session import GatewaySession, GatewaySessions
from maskmesh import telemetry, wire
from maskmesh.channels import open_channel
from maskmesh.errors import InvalidPrompt, InvalidRequest, MaskmeshError, SessionNotFound
from maskmesh.interceptors import current_trace_id
from maskmesh.internal.v1 import tracker_pb2
from maskmesh.serving import Service
from maskmesh.types import EmbeddingRef, ModelInfo
from maskmesh.v1 import segmentation_pb2, segmentation_pb2_grpc, types_pb2

logger = logging.getLogger(__name__)

MAX_PROMPTS = 64
SWEEP_SECONDS = 1.0

# How long a caller whose upload is refused may go on sending, and pause meanwhile.
READ_OUT_SECONDS = 10.0
PAUSE_SECONDS = 0.5


class SegmentationServicer(segmentation_pb2_grpc.SegmentationServiceServicer):
    """Answers calls once :meth:`start` has returned."""

    model: ModelInfo
    _sweeper: "asyncio.Task[None]"

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings

    async def start(self, port: int) -> None:
        """Wait for the other services.  Raises ValueError where their models differ."""
        settings = self._settings
        self._channels = [
            open_channel(address, max_message_bytes=settings.max_message_bytes)
            for address in (settings.encoder, settings.tracker)
        ]
        self._encoder = EncoderBackend(self._channels[0])
        self._tracker = TrackerBackend(self._channels[1])
        # A decoded frame goes to the encoder in one message.
        self._max_pixels = min(settings.max_pixels, (settings.max_message_bytes - 2**16) // 3)
        limits = FrameLimits(settings.max_session_bytes, settings.max_frames, self._max_pixels)
        self._sessions = GatewaySessions(
            folder=settings.data_dir, limits=limits, max_sessions=settings.max_sessions
        )
        encoder = await _wait_for(self._encoder.model)
        self.model = await _wait_for(self._tracker.model)
        if encoder.model_id != self.model.model_id:
            raise ValueError(f"the encoder runs {encoder.model_id}, the tracker {self.model.model_id}")
        self._sweeper = asyncio.ensure_future(self._sweep())

    async def close(self) -> None:
        """Delete the frames and close the connections."""
        if hasattr(self, "_sweeper"):
            self._sweeper.cancel()
        await self._sessions.close()
        for channel in self._channels:
            await channel.close()

    async def SegmentImage(self, request: segmentation_pb2.SegmentImageRequest, context: Any) -> Any:
        """See the proto."""
        image = wire.image_from_proto(request.image, field="image", max_pixels=self._settings.max_pixels)
        mask_format = wire.mask_format_from_proto(request.mask_format)
        _check_image_prompts(request)
        urgency = Urgency(interactive=True, timeout=context.time_remaining())
        refs: list[EmbeddingRef] = []

        async def obtain() -> EmbeddingRef:
            refs.append(await encode_image(self._encoder, image, urgency))
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
                embedding=wire.ref_to_proto(ref),
                prompts=[tracker_pb2.ImagePrompt(obj_id=p.obj_id, prompt=p.prompt) for p in request.prompts],
                multimask_output=request.multimask_output,
                mask_format=wire.mask_format_to_proto(mask_format),
            )
            return await self._tracker.segment_image(message, context.time_remaining())

        masks = await with_embedding(obtain, use, lambda: None)
        return segmentation_pb2.SegmentImageResponse(
            width=refs[-1].image_width,
            height=refs[-1].image_height,
            masks=masks,
            trace_id=current_trace_id(),
        )

    async def CreateSession(self, request: segmentation_pb2.CreateSessionRequest, context: Any) -> Any:
        """See the proto."""
        asked = request.ttl.ToNanoseconds() / 1e9
        if asked < 0:
            raise InvalidRequest("a ttl must not be negative", field="ttl")
        self._sessions.check_room()
        longest = self._settings.session_ttl_seconds
        session_id = uuid.uuid4().hex
        ttl = await self._tracker.create_session(session_id, min(asked or longest, longest))
        span = trace.get_current_span()
        span.set_attribute(telemetry.SESSION_ID, session_id)
        self._sessions.create(session_id, ttl, span.get_span_context())
        response = segmentation_pb2.CreateSessionResponse(
            session_id=session_id, model=wire.model_info_to_proto(self.model)
        )
        response.ttl.FromNanoseconds(int(ttl * 1e9))
        return response

    async def AppendFrames(
        self,
        request_iterator: AsyncIterator[segmentation_pb2.AppendFramesRequest],
        context: Any,
    ) -> Any:
        """See the proto."""
        try:
            return await self._append_frames(request_iterator)
        except MaskmeshError:
            remaining = context.time_remaining()
            await _read_out(
                request_iterator,
                READ_OUT_SECONDS if remaining is None else min(READ_OUT_SECONDS, remaining / 2),
            )
            raise

    async def _append_frames(
        self, request_iterator: AsyncIterator[segmentation_pb2.AppendFramesRequest]
    ) -> segmentation_pb2.AppendFramesResponse:
        first = await anext(aiter(request_iterator), None)
        if first is None or first.WhichOneof("content") != "config":
            raise InvalidRequest("the configuration comes first", field="config")
        session = self._session(first.config.session_id)
        renewal = asyncio.ensure_future(self._keep_alive(session))
        try:
            async with session.appending:
                first_frame = await self._add_frames(session, request_iterator)
        finally:
            renewal.cancel()
        return segmentation_pb2.AppendFramesResponse(
            first_frame_index=first_frame,
            num_frames=session.frames.num_frames,
            width=session.frames.width,
            height=session.frames.height,
            frames_per_second=session.frames.frames_per_second,
        )

    async def _add_frames(
        self,
        session: GatewaySession,
        requests: AsyncIterator[segmentation_pb2.AppendFramesRequest],
    ) -> int:
        """Take in all frames of a call or none; returns the index of the first.

        The session's one thread does it step by step, so a caller who leaves interrupts no step, and what
        is dropped then is dropped after the step.
        """
        addition = Addition(session.frames)
        try:
            async for request in requests:
                match request.WhichOneof("content"):
                    case "frame":
                        image = wire.image_from_proto(
                            request.frame, field="frame", max_pixels=self._max_pixels
                        )
                        await session.frames.on_thread(addition.add_frame, image)
                    case "video_chunk":
                        await session.frames.on_thread(addition.add_video_chunk, request.video_chunk)
                    case "finish":
                        return await session.frames.on_thread(addition.commit)
                    case _:
                        raise InvalidRequest("after the configuration come frames", field="content")
            raise InvalidRequest("the call ended before its last message", field="content")
        finally:
            await session.frames.on_thread(addition.close)

    async def _keep_alive(self, session: GatewaySession) -> None:
        """A long upload is use: keep both leases."""
        while True:
            await self._tracker.renew_session(session.session_id)
            session.renew()
            await asyncio.sleep(session.ttl_seconds / 3)

    async def AddPrompt(self, request: segmentation_pb2.AddPromptRequest, context: Any) -> Any:
        """See the proto."""
        session = self._session(request.session_id)
        frames = session.frames
        frames.check_index(request.frame_index)
        wire.mask_format_from_proto(request.mask_format)
        # Before anything is encoded for nothing; the tracker judges it again.
        wire.prompt_from_proto(request.prompt, width=frames.width, height=frames.height, field="prompt")
        urgency = Urgency(interactive=True, timeout=context.time_remaining())
        index = request.frame_index

        async def obtain() -> EmbeddingRef:
            return (await frame_ref(session, self._encoder, index, urgency)).ref

        async def use(ref: EmbeddingRef) -> types_pb2.ObjectMask:
            message = tracker_pb2.AddPromptRequest(
                session_id=session.session_id,
                frame_index=index,
                obj_id=request.obj_id,
                prompt=request.prompt,
                clear_previous=request.clear_previous,
                mask_format=request.mask_format,
                embedding=wire.ref_to_proto(ref),
            )
            return await self._tracker.add_prompt(message, context.time_remaining())

        mask = await with_embedding(
            obtain,
            use,
            partial(session.forget_ref, index),
        )
        frame = types_pb2.FrameMasks(
            frame_index=index,
            objects=[mask],
            trace_id=current_trace_id(),
            conditioning=True,
            width=frames.width,
            height=frames.height,
        )
        return segmentation_pb2.AddPromptResponse(frame=frame)

    async def PropagateVideo(
        self, request: segmentation_pb2.PropagateVideoRequest, context: Any
    ) -> AsyncIterator[segmentation_pb2.PropagateVideoResponse]:
        """See the proto."""
        start_ns = time.time_ns()
        session = self._session(request.session_id)
        mask_format = wire.mask_format_from_proto(request.mask_format)
        start = request.start_frame_index if request.HasField("start_frame_index") else None
        if start is not None:
            session.frames.check_index(start, field="start_frame_index")
        propagation = Propagation(
            session,
            self._encoder,
            self._tracker,
            window=self._settings.window,
            urgency=Urgency(
                interactive=False,
                owner=session.session_id,
                pin_seconds=self._settings.pin_seconds,
                timeout=context.time_remaining(),
            ),
            links=[session.span, trace.get_current_span().get_span_context()],
        )
        frames = propagation.run(Extent(start, request.max_frames), mask_format, start_ns=start_ns)
        try:
            async for frame in frames:
                yield segmentation_pb2.PropagateVideoResponse(frame=frame)
        finally:
            await frames.aclose()  # type: ignore[attr-defined]

    async def RemoveObject(self, request: segmentation_pb2.RemoveObjectRequest, context: Any) -> Any:
        """See the proto."""
        session = self._session(request.session_id)
        left = await self._tracker.remove_object(session.session_id, request.obj_id)
        return segmentation_pb2.RemoveObjectResponse(obj_ids=left)

    async def ResetSession(self, request: segmentation_pb2.ResetSessionRequest, context: Any) -> Any:
        """See the proto."""
        session = self._session(request.session_id)
        await self._tracker.reset_session(session.session_id)
        return segmentation_pb2.ResetSessionResponse()

    async def DeleteSession(self, request: segmentation_pb2.DeleteSessionRequest, context: Any) -> Any:
        """See the proto."""
        self._session(request.session_id)
        await self._sessions.delete(request.session_id)
        await self._free(request.session_id)
        return segmentation_pb2.DeleteSessionResponse()

    def _session(self, session_id: str) -> GatewaySession:
        trace.get_current_span().set_attribute(telemetry.SESSION_ID, session_id)
        return self._sessions.get(session_id)

    async def _free(self, session_id: str) -> None:
        """Free what a session that is over holds in the other services; they would in time."""
        for free in (
            lambda: self._tracker.delete_session(session_id),
            lambda: self._encoder.unpin(session_id, []),
        ):
            try:
                await free()
            except SessionNotFound:
                pass
            except (MaskmeshError, grpc.RpcError) as error:
                logger.warning("session %s is not freed everywhere: %s", session_id, error)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            for session_id in await self._sessions.expired():
                logger.info("session %s expired", session_id)
                await self._free(session_id)


def _check_image_prompts(request: segmentation_pb2.SegmentImageRequest) -> None:
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


async def _wait_for(model: Callable[[], Awaitable[ModelInfo]]) -> ModelInfo:
    """Ask for a model until its service is ready."""
    while True:
        try:
            return await model()
        except (MaskmeshError, grpc.RpcError) as error:
            logger.info("waiting: %s", error)
            await asyncio.sleep(0.2)


def make_service(settings: GatewaySettings) -> Service:
    """The gateway as a service to run."""
    servicer = SegmentationServicer(settings)

    def register(server: grpc.aio.Server) -> None:
        segmentation_pb2_grpc.add_SegmentationServiceServicer_to_server(servicer, server)

    return Service(
        name="gateway",
        full_name=segmentation_pb2.DESCRIPTOR.services_by_name["SegmentationService"].full_name,
        register=register,
        start=servicer.start,
        close=servicer.close,
    )


async def _read_out(requests: AsyncIterator[Any], seconds: float) -> None:
    """Let a caller finish what it is sending, and drop it.

    An answer that overtakes messages on their way is lost on gRPC's own client for asyncio: the failure
    of the write takes the place of the reason.
    """
    messages = aiter(requests)
    try:
        async with asyncio.timeout(seconds):
            while True:
                async with asyncio.timeout(PAUSE_SECONDS):
                    await anext(messages)
    except (TimeoutError, StopAsyncIteration):
        pass  # nothing more is coming, or too much: then the reason may be lost
