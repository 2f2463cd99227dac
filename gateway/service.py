"""SegmentationService over gRPC."""

import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import grpc

from gateway import components
from gateway.api_keys import ApiKeys, current_caller
from gateway.components import Components
from gateway.config import GatewaySettings
from gateway.erase_objects import EraseCalls
from gateway.image_call import ImageCalls
from gateway.live.live_calls import LiveCalls
from gateway.mesh_status import mesh_status
from gateway.points.point_tracking import PointCalls
from gateway.segment_concepts import segment_concepts
from gateway.segment_everything import segment_everything
from gateway.segment_image import segment_image
from gateway.sessions.prompting import add_concept, add_prompt, expected_revision
from gateway.streams.frame_stream import StreamContexts
from gateway.streams.propagate_video import PropagationCalls
from gateway.upload import ImageMessages, Uploads
from maskmesh import wire
from maskmesh.config import enable_ring_hash
from maskmesh.errors import InvalidRequest
from maskmesh.internal.v1 import tracker_pb2
from maskmesh.rpc.idempotency import IdempotencyCache
from maskmesh.rpc.server import Service
from maskmesh.rpc.server_interceptor import received_ns
from maskmesh.scheduling.malloc import retain_freed_frames
from maskmesh.v1 import erase_pb2, points_pb2, segmentation_pb2, segmentation_pb2_grpc

# Maximum number of idempotency keys of calls that create or delete a session.
MAX_KEYS = 1024

_SERVICE = segmentation_pb2.DESCRIPTOR.services_by_name["SegmentationService"]


class SegmentationServicer(segmentation_pb2_grpc.SegmentationServiceServicer):
    """Serves calls once :meth:`start` has returned.  The proto describes its methods."""

    _components: Components

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._answers = IdempotencyCache(max_keys=MAX_KEYS)
        self._is_draining = False

    async def start(self, port: int) -> None:
        """Connect to the encoders and trackers and warm up.  Raises ValueError if their models differ."""
        self._components = await components.start(self._settings)
        self._lifecycle, self._router = self._components.lifecycle, self._components.router
        self._image_calls = ImageCalls(self._components.encoders, self._components.trackers)
        self._contexts = StreamContexts(
            self._components.encoders, self._router, pin_seconds=self._settings.pin_seconds
        )
        self._propagations = PropagationCalls(self._lifecycle, self._contexts, self._settings.window)
        self._points = PointCalls(
            self._lifecycle, self._router, self._components.point_encoders, self._settings.window
        )
        self._erasing = EraseCalls(
            self._lifecycle, self._contexts, self._components.erasers, self._settings.window
        )
        self._uploads = Uploads(
            self._lifecycle, self._components.sessions.check_bytes, limit=self._settings.pixel_limit
        )
        parts = self._components
        self._live = LiveCalls(
            self._lifecycle, self._contexts, parts.erasers, self._points, parts.model, self._settings
        )

    async def drain(self) -> None:
        """End streams that clients can continue at another gateway."""
        self._is_draining = True
        await self._lifecycle.drain()

    async def close(self) -> None:
        """Delete the frames and close the connections."""
        if hasattr(self, "_components"):
            await self._components.close()

    async def SegmentImage(self, request: segmentation_pb2.SegmentImageRequest, context: Any) -> Any:
        return await self._image_call(segment_image, request, context)

    async def SegmentConcepts(self, request: segmentation_pb2.SegmentConceptsRequest, context: Any) -> Any:
        return await self._image_call(segment_concepts, request, context)

    async def SegmentEverything(
        self, request: segmentation_pb2.SegmentEverythingRequest, context: Any
    ) -> Any:
        return await self._image_call(segment_everything, request, context)

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
            concepts=state.concepts,
        )
        response.ttl.FromNanoseconds(int(session.ttl_seconds * 1e9))
        return response

    async def AppendFrames(
        self,
        request_iterator: AsyncIterator[segmentation_pb2.AppendFramesRequest],
        context: Any,
    ) -> Any:
        return await self._uploads.append(request_iterator, context.time_remaining)

    async def AppendImages(self, request: segmentation_pb2.AppendImagesRequest, context: Any) -> Any:
        if not request.images:
            raise InvalidRequest("at least one image is needed", field="images")
        messages = ImageMessages(request)
        with messages.naming_fields():
            frames = await self._uploads.append(aiter(messages), None)
        return segmentation_pb2.AppendImagesResponse(frames=frames)

    async def AddPrompt(self, request: segmentation_pb2.AddPromptRequest, context: Any) -> Any:
        session = await self._lifecycle.find(request.session_id)
        return await add_prompt(
            self._components.encoders,
            self._router,
            session,
            request,
            context.time_remaining(),
            start_ns=received_ns(),
        )

    async def AddConcept(self, request: segmentation_pb2.AddConceptRequest, context: Any) -> Any:
        session = await self._lifecycle.find(request.session_id)
        return await add_concept(
            self._components.encoders,
            self._router,
            session,
            request,
            context.time_remaining(),
            start_ns=received_ns(),
        )

    async def RemoveConcept(self, request: segmentation_pb2.RemoveConceptRequest, context: Any) -> Any:
        message = tracker_pb2.RemoveConceptRequest(
            concept_id=request.concept_id, keep_objects=request.keep_objects
        )
        response = await self._change("RemoveConcept", request, message, context)
        return segmentation_pb2.RemoveConceptResponse(
            concept_ids=response.concept_ids, obj_ids=response.obj_ids, revision=response.revision
        )

    async def ClearPrompts(self, request: segmentation_pb2.ClearPromptsRequest, context: Any) -> Any:
        session = await self._lifecycle.find(request.session_id)
        session.frames.check_index(request.frame_index)
        message = tracker_pb2.ClearPromptsRequest(frame_index=request.frame_index, obj_id=request.obj_id)
        response = await self._change("ClearPrompts", request, message, context)
        return segmentation_pb2.ClearPromptsResponse(obj_ids=response.obj_ids, revision=response.revision)

    async def PropagateVideo(
        self, request: segmentation_pb2.PropagateVideoRequest, context: Any
    ) -> AsyncIterator[segmentation_pb2.PropagateVideoResponse]:
        responses = self._propagations.propagate(request, context.time_remaining(), start_ns=received_ns())
        async with contextlib.aclosing(responses):
            async for response in responses:
                yield response

    async def TrackPoints(
        self, request: points_pb2.TrackPointsRequest, context: Any
    ) -> AsyncIterator[points_pb2.TrackPointsResponse]:
        responses = self._points.track(request, context.time_remaining(), start_ns=received_ns())
        async with contextlib.aclosing(responses):
            async for response in responses:
                yield response

    async def EraseObjects(
        self, request: erase_pb2.EraseObjectsRequest, context: Any
    ) -> AsyncIterator[erase_pb2.EraseObjectsResponse]:
        responses = self._erasing.erase(request, context.time_remaining(), start_ns=received_ns())
        async with contextlib.aclosing(responses):
            async for response in responses:
                yield response

    async def SegmentStream(
        self, request_iterator: AsyncIterator[segmentation_pb2.SegmentStreamRequest], context: Any
    ) -> AsyncIterator[segmentation_pb2.SegmentStreamResponse]:
        async with contextlib.aclosing(self._live.segment(request_iterator)) as responses:
            async for response in responses:
                yield response

    async def ReceiveStream(
        self, request: segmentation_pb2.ReceiveStreamRequest, context: Any
    ) -> AsyncIterator[segmentation_pb2.ReceiveStreamResponse]:
        async with contextlib.aclosing(self._live.receive(request.config)) as responses:
            async for response in responses:
                yield segmentation_pb2.ReceiveStreamResponse(response=response)

    async def SendStream(self, request: segmentation_pb2.SendStreamRequest, context: Any) -> Any:
        await self._live.send(request)
        return segmentation_pb2.SendStreamResponse()

    async def RemoveObject(self, request: segmentation_pb2.RemoveObjectRequest, context: Any) -> Any:
        message = tracker_pb2.RemoveObjectRequest(obj_id=request.obj_id)
        response = await self._change("RemoveObject", request, message, context)
        return segmentation_pb2.RemoveObjectResponse(obj_ids=response.obj_ids, revision=response.revision)

    async def ResetSession(self, request: segmentation_pb2.ResetSessionRequest, context: Any) -> Any:
        response = await self._change("ResetSession", request, tracker_pb2.ResetSessionRequest(), context)
        return segmentation_pb2.ResetSessionResponse(revision=response.revision)

    async def DeleteSession(self, request: segmentation_pb2.DeleteSessionRequest, context: Any) -> Any:
        return await self._answers.run(
            request.idempotency_key,
            request,
            partial(self._delete_session, request),
            scope=current_caller().tenant,
        )

    async def GetMesh(self, request: segmentation_pb2.GetMeshRequest, context: Any) -> Any:
        return await mesh_status(
            self._components.encoder_services,
            self._components.trackers,
            self._components.sessions.counts,
            draining=self._is_draining,
            trace_url=self._settings.trace_url,
        )

    async def _image_call(self, carry_out: Callable[..., Awaitable[Any]], request: Any, context: Any) -> Any:
        """Carry out a call about one image that belongs to no session."""
        return await carry_out(
            request,
            self._image_calls,
            limit=self._settings.pixel_limit,
            timeout=context.time_remaining(),
            start_ns=received_ns(),
        )

    async def _change(self, method: str, request: Any, message: Any, context: Any) -> Any:
        """Call a method of the session's tracker that changes the session."""
        session = await self._lifecycle.find(request.session_id)
        message.session_id = request.session_id
        message.idempotency_key = request.idempotency_key or uuid.uuid4().hex
        if (expected := expected_revision(request)) is not None:
            message.expected_revision = expected
        return await self._router.call(session, method, message, context.time_remaining())

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
