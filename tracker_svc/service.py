"""TrackerService over gRPC: messages to values and back, and the order of calls."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import grpc
import torch
from opentelemetry import trace

from maskmesh import telemetry, wire
from maskmesh.device_worker import DeviceWorker
from maskmesh.errors import InvalidRequest, ResourceExhausted
from maskmesh.internal.v1 import tracker_pb2, tracker_pb2_grpc
from maskmesh.serving import Service
from maskmesh.types import ModelInfo, ObjectMask
from tracker_svc.config import TrackerSettings
from tracker_svc.embeddings import EmbeddingStore
from tracker_svc.loading import load_model
from tracker_svc.objects import TrackedObject, check_logits_size, check_mask_size, combine
from tracker_svc.propagation import Propagation
from tracker_svc.session import Session, SessionStore
from tracker_svc.tracker import Tracker, check_promptable
from tracker_svc.warm_up import warm_up

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0


class TrackerServicer(tracker_pb2_grpc.TrackerServiceServicer):
    """Answers calls once :meth:`start` has returned."""

    info: ModelInfo
    tracker: Tracker
    worker: DeviceWorker
    embeddings: EmbeddingStore
    sessions: SessionStore
    _sweeper: "asyncio.Task[None]"

    def __init__(self, settings: TrackerSettings) -> None:
        self._settings = settings

    async def start(self, port: int) -> None:
        """Load the model and warm it up."""
        settings = self._settings
        loaded = await asyncio.to_thread(load_model, settings)
        self.tracker = Tracker(loaded.model, session_memory_bytes=settings.session_memory_bytes)
        self.worker = DeviceWorker("tracker-device", max_queue=settings.max_queue)
        self.embeddings = EmbeddingStore(
            model_id=loaded.info.model_id,
            device=loaded.model.device,
            budget_bytes=settings.embedding_bytes,
            max_message_bytes=settings.max_message_bytes,
        )
        self.sessions = SessionStore(
            max_sessions=settings.max_sessions, ttl_seconds=settings.session_ttl_seconds
        )
        seconds = await warm_up(self.tracker, self.worker)
        self.info = replace(loaded.info, warm_up_seconds=seconds)
        logger.info(
            "%s on %s in %s with %d threads, warm after %.2f s",
            self.info.model_id, self.info.device, self.info.dtype, self.info.threads, seconds,
        )  # fmt: skip
        self._sweeper = asyncio.ensure_future(self._sweep())

    async def close(self) -> None:
        """Stop the thread and close the connections."""
        if not hasattr(self, "_sweeper"):
            return
        self._sweeper.cancel()
        await self.embeddings.close()
        await asyncio.to_thread(self.worker.close)

    async def SegmentImage(self, request: tracker_pb2.SegmentImageRequest, context: Any) -> Any:
        """See the proto."""
        ref = wire.ref_from_proto(request.embedding)
        mask_format = wire.mask_format_from_proto(request.mask_format)
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
            size = self.tracker.model.image_size // 4
            check_logits_size(prompt, size=size, field=f"prompts[{i}].prompt")
        frame = await self.embeddings.get(ref)
        recorder = self.tracker.recorder(object__count=len(prompts))

        def segment() -> list[ObjectMask]:
            states = self.tracker.segment_image(
                frame, prompts, multimask_output=request.multimask_output, recorder=recorder
            )
            with recorder.stage(telemetry.POSTPROCESS):
                return [
                    self.tracker.object_mask(p.obj_id, state, frame, mask_format)
                    for p, alternatives in zip(request.prompts, states, strict=True)
                    for state in alternatives
                ]

        try:
            masks = await self.worker.run(segment, recorder=recorder)
        finally:
            telemetry.emit_soon(recorder.records, None)
        return tracker_pb2.SegmentImageResponse(masks=[wire.object_mask_to_proto(mask) for mask in masks])

    async def CreateSession(self, request: tracker_pb2.CreateSessionRequest, context: Any) -> Any:
        """See the proto."""
        ttl = request.ttl.ToNanoseconds() / 1e9
        if ttl < 0:
            raise InvalidRequest("a ttl must not be negative", field="ttl")
        session = self.sessions.create(request.session_id, ttl)
        response = tracker_pb2.CreateSessionResponse(model=wire.model_info_to_proto(self.info))
        response.ttl.FromNanoseconds(int(session.ttl_seconds * 1e9))
        return response

    async def AddPrompt(self, request: tracker_pb2.AddPromptRequest, context: Any) -> Any:
        """See the proto."""
        session = self._session(request.session_id)
        ref = wire.ref_from_proto(request.embedding)
        mask_format = wire.mask_format_from_proto(request.mask_format)
        if request.frame_index < 0:
            raise InvalidRequest("frames count from 0", field="frame_index")
        size = {"width": ref.image_width, "height": ref.image_height}
        new = wire.prompt_from_proto(request.prompt, field="prompt", **size)
        if new.mask is not None:
            await asyncio.to_thread(check_mask_size, new, **size)
        index, obj_id = request.frame_index, request.obj_id
        recorder = self.tracker.recorder(
            frame__index=index, frame__kind=telemetry.CONDITIONING, object__count=1
        )
        async with session.in_turn(recorder):
            obj = session.objects.get(obj_id)
            if obj is None:
                if len(session.objects) >= self._settings.max_objects:
                    raise ResourceExhausted("the session is full", resource="objects")
                obj = TrackedObject(obj_id)
            earlier = obj.prompts.get(index)
            prompt = combine(earlier, new, clear_previous=request.clear_previous)
            check_promptable(obj, index)
            if index not in obj.prompts and len(obj.prompts) >= self._settings.max_prompted_frames:
                raise ResourceExhausted("the object is prompted on too many frames", resource="prompts")
            frame = await self.embeddings.get(ref)

            def add() -> tuple[Any, ObjectMask]:
                state = self.tracker.prompt(
                    obj, index, prompt, frame,
                    clear_previous=request.clear_previous, recorder=recorder,
                )  # fmt: skip
                with recorder.stage(telemetry.POSTPROCESS):
                    return state, self.tracker.object_mask(obj_id, state, frame, mask_format)

            try:
                state, mask = await self.worker.run(add, recorder=recorder)
            finally:
                telemetry.emit_soon(recorder.records, None)
            # Nothing can fail from here on: all of it is taken in, or none.
            obj.prompts[index] = prompt
            obj.bank.prompt(index, state)
            session.objects[obj_id] = obj
            session.prompted_refs[index] = ref
        return tracker_pb2.AddPromptResponse(mask=wire.object_mask_to_proto(mask))

    async def Track(
        self, request_iterator: AsyncIterator[tracker_pb2.TrackRequest], context: Any
    ) -> AsyncIterator[tracker_pb2.TrackResponse]:
        """See the proto."""
        first = await anext(aiter(request_iterator), None)
        if first is None or first.WhichOneof("content") != "config":
            raise InvalidRequest("the configuration comes first", field="config")
        mask_format = wire.mask_format_from_proto(first.config.mask_format)
        session = self._session(first.config.session_id)
        with session.propagating():
            started = tracker_pb2.TrackStarted(first_prompted_frame_index=session.first_prompted_frame())
            yield tracker_pb2.TrackResponse(started=started)
            propagation = Propagation(
                session, self.sessions, self.tracker, self.worker, self.embeddings, mask_format
            )
            async for response in propagation.run(request_iterator):
                yield response

    async def RemoveObject(self, request: tracker_pb2.RemoveObjectRequest, context: Any) -> Any:
        """See the proto."""
        session = self._session(request.session_id)
        async with session.lock:
            session.remove_object(request.obj_id)
            return tracker_pb2.RemoveObjectResponse(obj_ids=session.objects)

    async def ResetSession(self, request: tracker_pb2.ResetSessionRequest, context: Any) -> Any:
        """See the proto."""
        session = self._session(request.session_id)
        async with session.lock:
            session.reset()
        return tracker_pb2.ResetSessionResponse()

    async def RenewSession(self, request: tracker_pb2.RenewSessionRequest, context: Any) -> Any:
        """See the proto."""
        self._session(request.session_id)
        return tracker_pb2.RenewSessionResponse()

    async def DeleteSession(self, request: tracker_pb2.DeleteSessionRequest, context: Any) -> Any:
        """See the proto."""
        self.sessions.delete(request.session_id)
        return tracker_pb2.DeleteSessionResponse()

    async def GetTrackerModel(self, request: tracker_pb2.GetTrackerModelRequest, context: Any) -> Any:
        """See the proto."""
        return tracker_pb2.GetTrackerModelResponse(model=wire.model_info_to_proto(self.info))

    def _session(self, session_id: str) -> Session:
        trace.get_current_span().set_attribute(telemetry.SESSION_ID, session_id)
        return self.sessions.get(session_id)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            if expired := self.sessions.sweep():
                logger.info("%d sessions expired", expired)


def make_service(settings: TrackerSettings) -> Service:
    """The tracker as a service to run."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    servicer = TrackerServicer(settings)

    def register(server: grpc.aio.Server) -> None:
        tracker_pb2_grpc.add_TrackerServiceServicer_to_server(servicer, server)

    return Service(
        name="tracker",
        full_name=tracker_pb2.DESCRIPTOR.services_by_name["TrackerService"].full_name,
        register=register,
        start=servicer.start,
        close=servicer.close,
    )
