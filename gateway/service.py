"""SegmentationService over gRPC: messages to values and back, and who is asked for what."""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from opentelemetry import trace

from gateway.api_keys import Keys, current_caller
from gateway.backends.encoders import Encoders, EncodeOptions
from gateway.backends.tracker_backend import at_epoch
from gateway.backends.trackers import Trackers
from gateway.config import GatewaySettings
from gateway.frames.frame_ring import FrameRing
from gateway.frames.frame_store import FrameLimits
from gateway.frames.upload import drain_requests, append_frames
from gateway.prompting import Prompter
from gateway.segment_image import segment_image
from gateway.sessions.lifecycle import Lifecycle
from gateway.sessions.resume_point import ResumePoint
from gateway.sessions.session import GatewaySession, GatewaySessions
from gateway.sessions.session_router import SessionRouter
from gateway.streams.live import LiveStream
from gateway.streams.propagation import FrameSelection, Propagation
from gateway.warm_up import warm_up
from maskmesh import wire
from maskmesh.config import enable_ring_hash
from maskmesh.errors import InvalidRequest, MaskmeshError, SessionNotFound
from maskmesh.internal.v1 import tracker_pb2
from maskmesh.malloc import retain_freed_frames
from maskmesh.rpc.idempotency import IdempotencyCache
from maskmesh.rpc.server import Service
from maskmesh.storage.redis_store import RedisStore
from maskmesh.storage.scratch import ScratchFolder
from maskmesh.storage.session_store import SessionStore
from maskmesh.telemetry.metrics import observe, observe_store
from maskmesh.types import ModelInfo
from maskmesh.v1 import segmentation_pb2, segmentation_pb2_grpc

logger = logging.getLogger(__name__)

# So many keys of calls that begin or end a session are remembered.
MAX_KEYS = 1024


class SegmentationServicer(segmentation_pb2_grpc.SegmentationServiceServicer):
    """Answers calls once :meth:`start` has returned."""

    model: ModelInfo

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._answers = IdempotencyCache(max_keys=MAX_KEYS)
        self._store: RedisStore | None = None

    async def start(self, port: int) -> None:
        """Wait for the other services.  Raises ValueError where their models differ."""
        settings = self._settings
        reached: Any = {"max_message_bytes": settings.max_message_bytes, "tls": settings.tls}
        self._encoders = Encoders(settings.encoder, **reached)
        if settings.session_url:
            self._store = RedisStore(settings.session_url, name="session store")
        shared = None if self._store is None else SessionStore(self._store)
        trackers = Trackers(settings.tracker, **reached)
        self._router = SessionRouter(trackers, shared)
        self._shared = shared
        self._prompter = Prompter(self._encoders, self._router)
        self._scratch = ScratchFolder("maskmesh-gateway-", settings.data_dir)
        # A decoded frame goes to the encoder in one message.
        self._max_pixels = min(settings.max_pixels, (settings.max_message_bytes - 2**16) // 3)
        limits = FrameLimits(settings.max_session_bytes, settings.max_frames, self._max_pixels)
        self._sessions = sessions = GatewaySessions(
            folder=self._scratch.path, limits=limits, max_sessions=settings.max_sessions
        )
        self._lifecycle = Lifecycle(
            sessions, self._encoders, self._router, shared, ttl_seconds=settings.session_ttl_seconds
        )
        observe(
            "maskmesh.sessions",
            lambda: {"open": len(sessions), "limit": settings.max_sessions},
            by="kind",
            unit="{session}",
            description="Sessions of which this gateway has the frames",
        )
        if self._store is not None:
            observe_store("sessions", self._store)
        encoder = await _wait_for(self._encoders.model)
        self.model = await _wait_for(trackers.model)
        if encoder.model_id != self.model.model_id:
            raise ValueError(f"the encoder runs {encoder.model_id}, the tracker {self.model.model_id}")
        await warm_up(self._encoders, self._router, self._scratch.path)

    async def drain(self) -> None:
        """Let clients go on with another gateway."""
        await self._lifecycle.drain()

    async def close(self) -> None:
        """Delete the frames and close the connections."""
        if hasattr(self, "_lifecycle"):
            await self._lifecycle.close()
            await asyncio.to_thread(self._scratch.close)
            await self._router.trackers.close()
            await self._encoders.close()
        if self._store is not None:
            await self._store.close()

    async def SegmentImage(self, request: segmentation_pb2.SegmentImageRequest, context: Any) -> Any:
        """See the proto."""
        return await segment_image(
            request,
            self._encoders,
            self._router.trackers,
            max_pixels=self._settings.max_pixels,
            timeout=context.time_remaining(),
        )

    async def CreateSession(self, request: segmentation_pb2.CreateSessionRequest, context: Any) -> Any:
        """See the proto."""

        async def once() -> segmentation_pb2.CreateSessionResponse:
            seconds = request.ttl.ToNanoseconds() / 1e9
            session = await self._lifecycle.create(seconds, key=request.idempotency_key)
            response = segmentation_pb2.CreateSessionResponse(
                session_id=session.session_id, model=wire.model_info_to_proto(self.model)
            )
            response.ttl.FromNanoseconds(int(session.ttl_seconds * 1e9))
            return response

        return await self._answers.run(request.idempotency_key, request, once, scope=current_caller().tenant)

    async def GetSession(self, request: segmentation_pb2.GetSessionRequest, context: Any) -> Any:
        """See the proto."""
        session = await self._lifecycle.find(request.session_id)
        known = await self._router.call(
            session,
            lambda tracker, epoch: tracker.get_session(session.session_id, epoch, context.time_remaining()),
        )
        response = segmentation_pb2.GetSessionResponse(
            session_id=session.session_id,
            model=wire.model_info_to_proto(self.model),
            num_frames=session.frames.num_frames,
            width=session.frames.width,
            height=session.frames.height,
            frames_per_second=session.frames.frames_per_second,
            revision=known.revision,
            objects=known.objects,
            history=known.history,
        )
        response.ttl.FromNanoseconds(int(session.ttl_seconds * 1e9))
        return response

    async def AppendFrames(
        self,
        request_iterator: AsyncIterator[segmentation_pb2.AppendFramesRequest],
        context: Any,
    ) -> Any:
        """See the proto."""
        is_read = False

        async def once() -> segmentation_pb2.AppendFramesResponse:
            nonlocal is_read
            is_read = True
            async with self._lifecycle.kept_alive(session):
                return await append_frames(
                    session,
                    config,
                    request_iterator,
                    self._shared,
                    max_pixels=self._max_pixels,
                    check_bytes=lambda: self._sessions.check_bytes(session.caller),
                )

        try:
            first = await anext(aiter(request_iterator), None)
            if first is None or first.WhichOneof("content") != "config":
                raise InvalidRequest("the configuration comes first", field="config")
            config = first.config
            session = await self._lifecycle.find(config.session_id)
            key = config.idempotency_key
            try:
                answer = await session.answers.run(key, config, once, field="config.idempotency_key")
            except InvalidRequest:
                if is_read or not key:
                    raise
                # It waited for an upload that broke: this one is whole.
                answer = await session.answers.run(key, config, once, field="config.idempotency_key")
            if not is_read:
                await drain_requests(request_iterator, context.time_remaining())
            return answer
        except MaskmeshError:
            await drain_requests(request_iterator, context.time_remaining())
            raise

    async def AddPrompt(self, request: segmentation_pb2.AddPromptRequest, context: Any) -> Any:
        """See the proto."""
        session = await self._lifecycle.find(request.session_id)
        return await self._prompter.prompt(session, request, context.time_remaining())

    async def ClearPrompts(self, request: segmentation_pb2.ClearPromptsRequest, context: Any) -> Any:
        """See the proto."""
        session = await self._lifecycle.find(request.session_id)
        session.frames.check_index(request.frame_index)
        message = tracker_pb2.ClearPromptsRequest(
            session_id=request.session_id,
            frame_index=request.frame_index,
            obj_id=request.obj_id,
            idempotency_key=request.idempotency_key or uuid.uuid4().hex,
            expected_revision=_expected(request),
        )
        left = await self._router.call(
            session,
            lambda tracker, epoch: tracker.clear_prompts(at_epoch(message, epoch), context.time_remaining()),
        )
        return segmentation_pb2.ClearPromptsResponse(obj_ids=left.obj_ids, revision=left.revision)

    async def PropagateVideo(
        self, request: segmentation_pb2.PropagateVideoRequest, context: Any
    ) -> AsyncIterator[segmentation_pb2.PropagateVideoResponse]:
        """See the proto."""
        start_ns = time.time_ns()
        session = await self._lifecycle.find(request.session_id)
        if isinstance(session.frames, FrameRing):
            raise InvalidRequest("a live session is tracked by its stream", field="session_id")
        options = wire.mask_options_from_proto(request.mask_options)
        extent, resumes = _extent(request, session)
        propagation = Propagation(
            session,
            self._encoders,
            self._router,
            window=self._settings.window,
            encode_options=self._urgency_ahead(session, context.time_remaining()),
            links=[session.span, trace.get_current_span().get_span_context()],
            resumes=resumes,
        )
        frames = propagation.run(extent, options, start_ns=start_ns)
        try:
            # Also for a reader that pauses for longer than the lease.
            async with self._lifecycle.kept_alive(session):
                async for found in frames:
                    yield segmentation_pb2.PropagateVideoResponse(
                        frame=found.frame, resume_token=found.resume_token
                    )
        finally:
            await frames.aclose()  # type: ignore[attr-defined]

    async def SegmentStream(
        self, request_iterator: AsyncIterator[segmentation_pb2.SegmentStreamRequest], context: Any
    ) -> AsyncIterator[segmentation_pb2.SegmentStreamResponse]:
        """See the proto."""
        first = await anext(aiter(request_iterator), None)
        if first is None or first.WhichOneof("content") != "config":
            raise InvalidRequest("the configuration comes first", field="config")
        config = first.config
        options = wire.mask_options_from_proto(config.mask_options, field="config.mask_options")
        if config.overload not in segmentation_pb2.OverloadPolicy.values():
            raise InvalidRequest(f"unknown policy {config.overload}", field="config.overload")
        resumes = None
        if config.resume_token:
            resumes = ResumePoint.parse(config.resume_token, field="config.resume_token")
            session = await self._lifecycle.find(resumes.session_id)
        else:
            session = await self._lifecycle.create(
                config.ttl.ToNanoseconds() / 1e9, live=True, field="config.ttl"
            )
        if not isinstance(session.frames, FrameRing):
            raise InvalidRequest("the session is not live", field="config.resume_token")
        stream = LiveStream(
            session,
            self._encoders,
            self._router,
            options=options,
            skips=config.overload == segmentation_pb2.OVERLOAD_POLICY_SKIP,
            window=self._settings.live_window,
            max_pixels=self._max_pixels,
            encode_options=self._urgency_ahead(session, None),
            links=[session.span, trace.get_current_span().get_span_context()],
        )
        started = segmentation_pb2.StreamStarted(
            session_id=session.session_id,
            model=wire.model_info_to_proto(self.model),
            window=self._settings.live_window,
        )
        started.ttl.FromNanoseconds(int(session.ttl_seconds * 1e9))
        answers = stream.run(request_iterator, started, resumes, config.next_sequence)
        try:
            async with self._lifecycle.kept_alive(session):
                async for answer in answers:
                    yield answer
        finally:
            await answers.aclose()  # type: ignore[attr-defined]
        if stream.is_finished:
            with contextlib.suppress(SessionNotFound):
                await self._lifecycle.delete(session.session_id)

    def _urgency_ahead(self, session: GatewaySession, timeout: float | None) -> EncodeOptions:
        return EncodeOptions(
            interactive=False,
            tenant=session.caller.tenant,
            owner=session.session_id,
            pin_seconds=self._settings.pin_seconds,
            timeout=timeout,
        )

    async def RemoveObject(self, request: segmentation_pb2.RemoveObjectRequest, context: Any) -> Any:
        """See the proto."""
        session = await self._lifecycle.find(request.session_id)
        message = tracker_pb2.RemoveObjectRequest(
            session_id=request.session_id,
            obj_id=request.obj_id,
            idempotency_key=request.idempotency_key or uuid.uuid4().hex,
            expected_revision=_expected(request),
        )
        left = await self._router.call(
            session,
            lambda tracker, epoch: tracker.remove_object(at_epoch(message, epoch), context.time_remaining()),
        )
        return segmentation_pb2.RemoveObjectResponse(obj_ids=left.obj_ids, revision=left.revision)

    async def ResetSession(self, request: segmentation_pb2.ResetSessionRequest, context: Any) -> Any:
        """See the proto."""
        session = await self._lifecycle.find(request.session_id)
        message = tracker_pb2.ResetSessionRequest(
            session_id=request.session_id,
            idempotency_key=request.idempotency_key or uuid.uuid4().hex,
            expected_revision=_expected(request),
        )
        reset = await self._router.call(
            session,
            lambda tracker, epoch: tracker.reset_session(at_epoch(message, epoch), context.time_remaining()),
        )
        return segmentation_pb2.ResetSessionResponse(revision=reset.revision)

    async def DeleteSession(self, request: segmentation_pb2.DeleteSessionRequest, context: Any) -> Any:
        """See the proto."""

        async def once() -> segmentation_pb2.DeleteSessionResponse:
            await self._lifecycle.delete(request.session_id, request.idempotency_key)
            return segmentation_pb2.DeleteSessionResponse()

        return await self._answers.run(request.idempotency_key, request, once, scope=current_caller().tenant)


def _expected(request: Any) -> int | None:
    return request.expected_revision if request.HasField("expected_revision") else None


def _extent(
    request: segmentation_pb2.PropagateVideoRequest, session: GatewaySession
) -> tuple[FrameSelection, ResumePoint | None]:
    """Which frames a propagation is about, and where it goes on if it broke.  Raises InvalidRequest."""
    reverse = wire.reverse_from_proto(request.direction)
    start = request.start_frame_index if request.HasField("start_frame_index") else None
    if request.resume_token:
        for field in ("start_frame_index", "max_frames", "direction"):
            if request.HasField(field) if field == "start_frame_index" else getattr(request, field):
                raise InvalidRequest("a token says it already", field=field)
        return FrameSelection(None, 0), ResumePoint.parse(request.resume_token, session_id=session.session_id)
    if start is not None:
        session.frames.check_index(start, field="start_frame_index")
    return FrameSelection(start, request.max_frames, reverse), None


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
    retain_freed_frames()
    enable_ring_hash()
    servicer = SegmentationServicer(settings)

    def register(server: grpc.aio.Server) -> None:
        segmentation_pb2_grpc.add_SegmentationServiceServicer_to_server(servicer, server)

    return Service(
        name="gateway",
        full_name=segmentation_pb2.DESCRIPTOR.services_by_name["SegmentationService"].full_name,
        register=register,
        start=servicer.start,
        close=servicer.close,
        drain=servicer.drain,
        admit=None if settings.keys is None else Keys(settings.keys).admit,
    )
