"""SegmentationService over gRPC."""

import contextlib
import time
import uuid
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import grpc
from opentelemetry import trace

from gateway import components
from gateway.api_keys import ApiKeys, current_caller
from gateway.backends.encoders import EncodeOptions
from gateway.components import Components
from gateway.config import GatewaySettings
from gateway.segment_image import segment_image
from gateway.sessions.prompting import add_prompt, expected_revision
from gateway.sessions.resume_point import ResumePoint
from gateway.sessions.session import GatewaySession
from gateway.streams.frame_stream import StreamContext
from gateway.streams.live import LiveStream
from gateway.streams.propagation import Propagation, select_frames
from gateway.upload import append_frames, drain_requests
from maskmesh import wire
from maskmesh.config import enable_ring_hash
from maskmesh.errors import InvalidRequest, MaskmeshError, SessionNotFound
from maskmesh.internal.v1 import tracker_pb2
from maskmesh.malloc import retain_freed_frames
from maskmesh.rpc.idempotency import IdempotencyCache
from maskmesh.rpc.server import Service
from maskmesh.v1 import segmentation_pb2, segmentation_pb2_grpc

# Maximum number of idempotency keys of calls that create or delete a session.
MAX_KEYS = 1024

_SERVICE = segmentation_pb2.DESCRIPTOR.services_by_name["SegmentationService"]


class SegmentationServicer(segmentation_pb2_grpc.SegmentationServiceServicer):
    """Serves calls once :meth:`start` has returned.  The proto describes its methods."""

    _components: Components

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._answers = IdempotencyCache(max_keys=MAX_KEYS)

    async def start(self, port: int) -> None:
        """Connect to the encoders and trackers and warm up.  Raises ValueError if their models differ."""
        self._components = await components.start(self._settings)
        self._lifecycle, self._router = self._components.lifecycle, self._components.router

    async def drain(self) -> None:
        """End streams that clients can continue at another gateway."""
        await self._lifecycle.drain()

    async def close(self) -> None:
        """Delete the frames and close the connections."""
        if hasattr(self, "_components"):
            await self._components.close()

    async def SegmentImage(self, request: segmentation_pb2.SegmentImageRequest, context: Any) -> Any:
        return await segment_image(
            request,
            self._components.encoders,
            self._components.trackers,
            limit=self._settings.pixel_limit,
            timeout=context.time_remaining(),
        )

    async def CreateSession(self, request: segmentation_pb2.CreateSessionRequest, context: Any) -> Any:
        return await self._answers.run(
            request.idempotency_key,
            request,
            partial(self._create_session, request),
            scope=current_caller().tenant,
        )

    async def GetSession(self, request: segmentation_pb2.GetSessionRequest, context: Any) -> Any:
        session = await self._lifecycle.find(request.session_id)
        message = tracker_pb2.GetSessionRequest(session_id=session.session_id)
        state = await self._router.call(session, "GetSession", message, context.time_remaining())
        response = segmentation_pb2.GetSessionResponse(
            session_id=session.session_id,
            model=wire.model_info_to_proto(self._components.model),
            num_frames=session.frames.num_frames,
            width=session.frames.width,
            height=session.frames.height,
            frames_per_second=session.frames.frames_per_second,
            revision=state.revision,
            objects=state.objects,
            history=state.history,
        )
        response.ttl.FromNanoseconds(int(session.ttl_seconds * 1e9))
        return response

    async def AppendFrames(
        self,
        request_iterator: AsyncIterator[segmentation_pb2.AppendFramesRequest],
        context: Any,
    ) -> Any:
        is_read = False

        async def append() -> segmentation_pb2.AppendFramesResponse:
            nonlocal is_read
            is_read = True
            async with self._lifecycle.keeping_alive(session):
                return await append_frames(
                    session,
                    config,
                    request_iterator,
                    limit=self._settings.pixel_limit,
                    check_bytes=partial(self._components.sessions.check_bytes, session.caller),
                )

        try:
            first = await anext(aiter(request_iterator), None)
            if first is None or first.WhichOneof("content") != "config":
                raise InvalidRequest("the first message must be the configuration", field="config")
            config = first.config
            session = await self._lifecycle.find(config.session_id)
            key = config.idempotency_key
            try:
                response = await session.answers.run(key, config, append, field="config.idempotency_key")
            except InvalidRequest:
                if is_read or not key:
                    raise
                # This call waited for an upload with the same key that failed; retry with this call's
                # frames.
                response = await session.answers.run(key, config, append, field="config.idempotency_key")
            if not is_read:
                await drain_requests(request_iterator, context.time_remaining())
            return response
        except MaskmeshError:
            await drain_requests(request_iterator, context.time_remaining())
            raise

    async def AddPrompt(self, request: segmentation_pb2.AddPromptRequest, context: Any) -> Any:
        session = await self._lifecycle.find(request.session_id)
        return await add_prompt(
            self._components.encoders, self._router, session, request, context.time_remaining()
        )

    async def ClearPrompts(self, request: segmentation_pb2.ClearPromptsRequest, context: Any) -> Any:
        session = await self._lifecycle.find(request.session_id)
        session.frames.check_index(request.frame_index)
        message = tracker_pb2.ClearPromptsRequest(
            session_id=request.session_id,
            frame_index=request.frame_index,
            obj_id=request.obj_id,
            idempotency_key=request.idempotency_key or uuid.uuid4().hex,
            expected_revision=expected_revision(request),
        )
        response = await self._router.call(session, "ClearPrompts", message, context.time_remaining())
        return segmentation_pb2.ClearPromptsResponse(obj_ids=response.obj_ids, revision=response.revision)

    async def PropagateVideo(
        self, request: segmentation_pb2.PropagateVideoRequest, context: Any
    ) -> AsyncIterator[segmentation_pb2.PropagateVideoResponse]:
        start_ns = time.time_ns()
        session = await self._lifecycle.find(request.session_id)
        if session.is_live:
            raise InvalidRequest("a live session is tracked by SegmentStream only", field="session_id")
        options = wire.mask_options_from_proto(request.mask_options)
        selection, resume_point = select_frames(request, session)
        stream_context = self._stream_context(session, self._settings.window, context.time_remaining())
        propagation = Propagation(session, stream_context, resume_point=resume_point)
        responses = propagation.run(selection, options, start_ns=start_ns)
        async with self._lifecycle.keeping_alive(session), contextlib.aclosing(responses):
            async for response in responses:
                yield response

    async def SegmentStream(
        self, request_iterator: AsyncIterator[segmentation_pb2.SegmentStreamRequest], context: Any
    ) -> AsyncIterator[segmentation_pb2.SegmentStreamResponse]:
        first = await anext(aiter(request_iterator), None)
        if first is None or first.WhichOneof("content") != "config":
            raise InvalidRequest("the first message must be the configuration", field="config")
        config = first.config
        options = wire.mask_options_from_proto(config.mask_options, field="config.mask_options")
        if config.overload not in segmentation_pb2.OverloadPolicy.values():
            raise InvalidRequest(f"unknown policy {config.overload}", field="config.overload")
        session, resume_point = await self._live_session(config)
        window = self._settings.live_window
        stream = LiveStream(
            session,
            self._stream_context(session, window, None),
            options=options,
            skips=config.overload == segmentation_pb2.OVERLOAD_POLICY_SKIP,
            limit=self._settings.pixel_limit,
        )
        started = segmentation_pb2.StreamStarted(
            session_id=session.session_id,
            model=wire.model_info_to_proto(self._components.model),
            window=window,
        )
        started.ttl.FromNanoseconds(int(session.ttl_seconds * 1e9))
        responses = stream.run(request_iterator, started, resume_point, config.next_sequence)
        async with self._lifecycle.keeping_alive(session), contextlib.aclosing(responses):
            async for response in responses:
                yield response
        if stream.is_finished:
            with contextlib.suppress(SessionNotFound):
                await self._lifecycle.delete(session.session_id)

    async def RemoveObject(self, request: segmentation_pb2.RemoveObjectRequest, context: Any) -> Any:
        session = await self._lifecycle.find(request.session_id)
        message = tracker_pb2.RemoveObjectRequest(
            session_id=request.session_id,
            obj_id=request.obj_id,
            idempotency_key=request.idempotency_key or uuid.uuid4().hex,
            expected_revision=expected_revision(request),
        )
        response = await self._router.call(session, "RemoveObject", message, context.time_remaining())
        return segmentation_pb2.RemoveObjectResponse(obj_ids=response.obj_ids, revision=response.revision)

    async def ResetSession(self, request: segmentation_pb2.ResetSessionRequest, context: Any) -> Any:
        session = await self._lifecycle.find(request.session_id)
        message = tracker_pb2.ResetSessionRequest(
            session_id=request.session_id,
            idempotency_key=request.idempotency_key or uuid.uuid4().hex,
            expected_revision=expected_revision(request),
        )
        response = await self._router.call(session, "ResetSession", message, context.time_remaining())
        return segmentation_pb2.ResetSessionResponse(revision=response.revision)

    async def DeleteSession(self, request: segmentation_pb2.DeleteSessionRequest, context: Any) -> Any:
        return await self._answers.run(
            request.idempotency_key,
            request,
            partial(self._delete_session, request),
            scope=current_caller().tenant,
        )

    async def _create_session(
        self, request: segmentation_pb2.CreateSessionRequest
    ) -> segmentation_pb2.CreateSessionResponse:
        seconds = request.ttl.ToNanoseconds() / 1e9
        session = await self._lifecycle.create(seconds, key=request.idempotency_key)
        response = segmentation_pb2.CreateSessionResponse(
            session_id=session.session_id, model=wire.model_info_to_proto(self._components.model)
        )
        response.ttl.FromNanoseconds(int(session.ttl_seconds * 1e9))
        return response

    async def _delete_session(
        self, request: segmentation_pb2.DeleteSessionRequest
    ) -> segmentation_pb2.DeleteSessionResponse:
        await self._lifecycle.delete(request.session_id, request.idempotency_key)
        return segmentation_pb2.DeleteSessionResponse()

    async def _live_session(
        self, config: segmentation_pb2.StreamConfig
    ) -> tuple[GatewaySession, ResumePoint | None]:
        """The session of a live stream: a new session, or the session of the resume token."""
        if not config.resume_token:
            seconds = config.ttl.ToNanoseconds() / 1e9
            return await self._lifecycle.create(seconds, live=True, field="config.ttl"), None
        resume_point = ResumePoint.parse(config.resume_token, field="config.resume_token")
        session = await self._lifecycle.find(resume_point.session_id)
        if not session.is_live:
            raise InvalidRequest("the session is not live", field="config.resume_token")
        return session, resume_point

    def _stream_context(self, session: GatewaySession, window: int, timeout: float | None) -> StreamContext:
        options = EncodeOptions(
            interactive=False,
            tenant=session.caller.tenant,
            owner=session.session_id,
            pin_seconds=self._settings.pin_seconds,
            timeout=timeout,
        )
        links = (session.span, trace.get_current_span().get_span_context())
        return StreamContext(self._components.encoders, self._router, options, links, window)


def make_service(settings: GatewaySettings) -> Service:
    """Create the gateway service."""
    retain_freed_frames()
    enable_ring_hash()
    servicer = SegmentationServicer(settings)

    def register(server: grpc.aio.Server) -> None:
        segmentation_pb2_grpc.add_SegmentationServiceServicer_to_server(servicer, server)

    return Service(
        name="gateway",
        full_name=_SERVICE.full_name,
        register=register,
        start=servicer.start,
        close=servicer.close,
        drain=servicer.drain,
        is_edge=True,
        authenticate=None if settings.keys is None else ApiKeys(settings.keys).authenticate,
    )
