"""TrackerService over gRPC: messages to values and back, and the order of calls."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import grpc
import torch
from opentelemetry import trace

from maskmesh import embedding_wire, session_wire, telemetry, wire
from maskmesh.batching import choose_batch
from maskmesh.cores import share_cores
from maskmesh.device_worker import DeviceWorker
from maskmesh.errors import InvalidRequest
from maskmesh.history import PromptRecord, SessionObject
from maskmesh.internal.v1 import tracker_pb2, tracker_pb2_grpc
from maskmesh.memory import give_back, keep_memory
from maskmesh.scratch import ScratchFolder
from maskmesh.serving import Service
from maskmesh.types import ModelInfo, ObjectMask
from tracker_svc.config import TrackerSettings
from tracker_svc.embeddings import EmbeddingStore
from tracker_svc.fetching import EmbeddingFetcher
from tracker_svc.frame_state import FrameState
from tracker_svc.loading import load_model
from tracker_svc.objects import check_logits_size, check_mask_size, combine
from tracker_svc.output import object_masks
from tracker_svc.propagation import Propagation
from tracker_svc.reach import check_promptable
from tracker_svc.session import Session, SessionLimits, SessionStore
from tracker_svc.stepping import Stepper
from tracker_svc.tracker import Tracker
from tracker_svc.warm_up import warm_up

logger = logging.getLogger(__name__)

T = TypeVar("T")

SWEEP_SECONDS = 1.0


class TrackerServicer(tracker_pb2_grpc.TrackerServiceServicer):
    """Answers calls once :meth:`start` has returned."""

    info: ModelInfo
    tracker: Tracker
    stepper: Stepper
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
        torch.set_num_threads(loaded.layout.threads)
        cores = share_cores(settings.shared_cores, "tracker", loaded.layout, torch.set_num_threads)
        self.worker = DeviceWorker(
            "tracker-device", max_queue=settings.max_queue, cores=cores, when_idle=give_back
        )
        self.tracker = Tracker(loaded.model, self.worker.give_way)
        max_batch = choose_batch(
            settings.max_batch, device=loaded.info.device, image_size=loaded.info.image_size
        )
        self.stepper = Stepper(self.tracker, self.worker, max_batch=max_batch)
        fetcher = EmbeddingFetcher(
            device=loaded.model.device,
            max_message_bytes=settings.max_message_bytes,
            shared_memory_dir=settings.shared_memory_dir,
        )
        self.embeddings = EmbeddingStore(
            fetcher, model_id=loaded.info.model_id, budget_bytes=settings.embedding_bytes
        )
        self._scratch = ScratchFolder("maskmesh-tracker-", settings.data_dir)
        self.sessions = SessionStore(
            max_sessions=settings.max_sessions,
            ttl_seconds=settings.session_ttl_seconds,
            limits=SessionLimits(
                max_objects=settings.max_objects,
                max_prompted_frames=settings.max_prompted_frames,
                max_history=settings.max_history,
                disk_bytes=settings.session_disk_bytes,
                recent_frames=settings.recent_frames,
            ),
            folder=self._scratch.path,
            device=loaded.model.device,
        )
        seconds = await warm_up(self.tracker, self.worker, max_batch=max_batch, cores=cores)
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
        for part in (self.worker, self.sessions, self._scratch):
            await asyncio.to_thread(part.close)

    async def SegmentImage(self, request: tracker_pb2.SegmentImageRequest, context: Any) -> Any:
        """See the proto."""
        ref = embedding_wire.ref_from_proto(request.embedding)
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
            size = self.tracker.model.image_size // 4
            check_logits_size(prompt, size=size, field=f"prompts[{i}].prompt")
        frame = await self.embeddings.get(ref)
        recorder = self.tracker.recorder(object__count=len(prompts))

        def segment() -> list[ObjectMask]:
            states = self.tracker.segment_image(
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
            masks = await self.worker.run(segment, recorder=recorder)
        finally:
            telemetry.emit_soon(recorder.records, None)
        return tracker_pb2.SegmentImageResponse(masks=[wire.object_mask_to_proto(mask) for mask in masks])

    async def CreateSession(self, request: tracker_pb2.CreateSessionRequest, context: Any) -> Any:
        """See the proto."""
        ttl = request.ttl.ToNanoseconds() / 1e9
        if ttl < 0:
            raise InvalidRequest("a ttl must not be negative", field="ttl")
        session = self.sessions.create(request.session_id, ttl, live=request.live)
        response = tracker_pb2.CreateSessionResponse(model=wire.model_info_to_proto(self.info))
        response.ttl.FromNanoseconds(int(session.ttl_seconds * 1e9))
        return response

    async def AddPrompt(self, request: tracker_pb2.AddPromptRequest, context: Any) -> Any:
        """See the proto."""
        session = self._session(request.session_id)
        said = tracker_pb2.AddPromptRequest()
        said.CopyFrom(request)
        said.ClearField("embedding")
        return await session.answers.once(
            request.idempotency_key, said, lambda: self._add_prompt(session, request)
        )

    async def _add_prompt(
        self, session: Session, request: tracker_pb2.AddPromptRequest
    ) -> tracker_pb2.AddPromptResponse:
        ref = embedding_wire.ref_from_proto(request.embedding)
        options = wire.mask_options_from_proto(request.mask_options)
        if request.frame_index < 0:
            raise InvalidRequest("frames count from 0", field="frame_index")
        size = {"width": ref.image_width, "height": ref.image_height}
        new = wire.prompt_from_proto(request.prompt, field="prompt", **size)
        if new.mask is not None:
            await asyncio.to_thread(check_mask_size, new, **size)
        index, obj_id = request.frame_index, request.obj_id
        said = PromptRecord(index, obj_id, new, request.clear_previous)
        recorder = self.tracker.recorder(
            frame__index=index, frame__kind=telemetry.CONDITIONING, object__count=1
        )
        # Before its turn: the others need not wait for the encoder.
        frame = await self.embeddings.get(ref)
        async with session.in_turn(recorder):
            self.sessions.get(session.session_id)
            session.check_revision(_expected(request))
            obj = session.find_or_make(obj_id)
            combined = combine(obj.prompts.get(index), new, clear_previous=said.clear_previous)
            session.check_promptable(obj, index)
            await asyncio.to_thread(check_promptable, obj, index)

            def add() -> tuple[FrameState, ObjectMask]:
                state = self.tracker.prompt(
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
                state, mask = await self.worker.run(add, recorder=recorder)
            finally:
                telemetry.emit_soon(recorder.records, None)
            # Nothing can fail from here on: all of it is taken in, or none.
            session.add_prompt(obj, said, combined, state, ref)
            revision = session.revision
        return tracker_pb2.AddPromptResponse(
            mask=wire.object_mask_to_proto(mask),
            revision=revision,
            stage_times=wire.stage_times_to_proto(telemetry.stage_seconds(recorder.records)),
        )

    async def ClearPrompts(self, request: tracker_pb2.ClearPromptsRequest, context: Any) -> Any:
        """See the proto."""
        return await self._change(
            request,
            lambda session: session.clear_prompts(request.obj_id, request.frame_index),
            lambda session: tracker_pb2.ClearPromptsResponse(
                obj_ids=session.objects, revision=session.revision
            ),
        )

    async def GetSession(self, request: tracker_pb2.GetSessionRequest, context: Any) -> Any:
        """See the proto."""
        session = self._session(request.session_id)
        async with session.lock:
            objects = [SessionObject(o.obj_id, sorted(o.prompts)) for o in session.objects.values()]
            return tracker_pb2.GetSessionResponse(
                revision=session.revision,
                objects=session_wire.objects_to_proto(objects),
                history=session_wire.history_to_proto(session.history.entries),
            )

    async def Track(
        self, request_iterator: AsyncIterator[tracker_pb2.TrackRequest], context: Any
    ) -> AsyncIterator[tracker_pb2.TrackResponse]:
        """See the proto."""
        first = await anext(aiter(request_iterator), None)
        if first is None or first.WhichOneof("content") != "config":
            raise InvalidRequest("the configuration comes first", field="config")
        options = wire.mask_options_from_proto(first.config.mask_options, field="config.mask_options")
        reverse = session_wire.reverse_from_proto(first.config.direction)
        session = self._session(first.config.session_id)
        with session.propagating():
            async with session.lock:
                session.history.check_room()
                first_prompted = session.first_prompted_frame()
            started = tracker_pb2.TrackStarted(first_prompted_frame_index=first_prompted)
            yield tracker_pb2.TrackResponse(started=started)
            propagation = Propagation(
                session,
                self.sessions,
                self.stepper,
                self.embeddings,
                options,
                reverse=reverse,
            )
            async for response in propagation.run(request_iterator):
                yield response

    async def RemoveObject(self, request: tracker_pb2.RemoveObjectRequest, context: Any) -> Any:
        """See the proto."""
        return await self._change(
            request,
            lambda session: session.remove_object(request.obj_id),
            lambda session: tracker_pb2.RemoveObjectResponse(
                obj_ids=session.objects, revision=session.revision
            ),
        )

    async def ResetSession(self, request: tracker_pb2.ResetSessionRequest, context: Any) -> Any:
        """See the proto."""
        return await self._change(
            request,
            Session.reset,
            lambda session: tracker_pb2.ResetSessionResponse(revision=session.revision),
        )

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

    async def _change(
        self, request: Any, change: Callable[[Session], None], answer: Callable[[Session], T]
    ) -> T:
        """Change a session in its turn and answer.  Not on the event loop: the archive is on disk."""
        session = self._session(request.session_id)

        async def once() -> T:
            async with session.lock:
                self.sessions.get(session.session_id)
                session.check_revision(_expected(request))
                await self.worker.run(partial(change, session))
                return answer(session)

        return await session.answers.once(request.idempotency_key, request, once)

    def _session(self, session_id: str) -> Session:
        trace.get_current_span().set_attribute(telemetry.SESSION_ID, session_id)
        return self.sessions.get(session_id)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            if expired := self.sessions.sweep():
                logger.info("%d sessions expired", expired)


def _expected(request: Any) -> int | None:
    return request.expected_revision if request.HasField("expected_revision") else None


def _others(session: Session, obj_id: int, frame_index: int) -> dict[int, FrameState]:
    """What is known of the other objects on a frame."""
    known = {o.obj_id: o.bank.current(frame_index) for o in session.objects.values() if o.obj_id != obj_id}
    return {other: state for other, state in known.items() if state is not None}


def make_service(settings: TrackerSettings) -> Service:
    """The tracker as a service to run."""
    keep_memory()
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
