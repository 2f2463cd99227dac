"""TrackerService over gRPC."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from opentelemetry import trace

from maskmesh import telemetry, wire
from maskmesh.aio import to_its_end
from maskmesh.errors import InvalidRequest, SessionBusy, StaleEpoch, Unavailable
from maskmesh.history import SessionObject
from maskmesh.internal.v1 import points_pb2_grpc, tracker_pb2, tracker_pb2_grpc
from maskmesh.rpc.server import Service
from maskmesh.rpc.server_interceptor import received_ns
from maskmesh.scheduling.malloc import retain_freed_memory
from tracker_svc import components, concept_calls, grid_call, prompting
from tracker_svc.components import Components
from tracker_svc.config import TrackerSettings
from tracker_svc.metrics import observe_tracker, tracker_status
from tracker_svc.points.point_service import PointServicer
from tracker_svc.propagation import Propagation
from tracker_svc.session_transfer import export_session, import_session
from tracker_svc.sessions.concept_changes import remove_concept
from tracker_svc.sessions.prompts import expected_revision, without_routing
from tracker_svc.sessions.session import Session

T = TypeVar("T", bound=Message)

POLL_SECONDS = 0.05

# How long a resumed propagation waits for the earlier stream to finish its step.
TAKE_OVER_SECONDS = 60.0

_SERVICE = tracker_pb2.DESCRIPTOR.services_by_name["TrackerService"]


class TrackerServicer(tracker_pb2_grpc.TrackerServiceServicer):
    """Serves calls once :meth:`start` has returned.  The proto describes its methods."""

    components: Components

    def __init__(self, settings: TrackerSettings) -> None:
        self._settings = settings
        self._propagations: set[Propagation] = set()
        self._draining: Unavailable | None = None
        self.points = PointServicer(lambda: self.components, self._require_not_draining)

    async def start(self, port: int) -> None:
        """Load the model and warm it up.  Raises CheckpointError, OSError."""
        self.components = await components.start(self._settings, port)
        self._sessions, self._registry = self.components.sessions, self.components.registry
        observe_tracker(self.components)

    async def close(self) -> None:
        """Stop the thread and close the connections."""
        if hasattr(self, "components"):
            await self.components.close()

    async def drain(self) -> None:
        """Refuse new calls, end propagations, and wait until all sessions have moved or are in the store.

        Never raises; the caller sets a timeout.
        """
        self._draining = Unavailable("the tracker is draining", service="tracker", draining="true")
        for propagation in list(self._propagations):
            propagation.end(self._draining)
        self.points.end_streams(self._draining)
        while self._propagations or (len(self._sessions) and self.components.store is None):
            await asyncio.sleep(POLL_SECONDS)

    async def SegmentImage(self, request: tracker_pb2.SegmentImageRequest, context: Any) -> Any:
        return await prompting.segment_image(self.components, request)

    async def SegmentConcepts(self, request: tracker_pb2.SegmentConceptsRequest, context: Any) -> Any:
        return await concept_calls.segment_concepts(self.components, request)

    async def SegmentGrid(self, request: tracker_pb2.SegmentGridRequest, context: Any) -> Any:
        return await grid_call.segment_grid(self.components, request)

    async def CreateSession(self, request: tracker_pb2.CreateSessionRequest, context: Any) -> Any:
        self._require_not_draining()
        ttl = request.ttl.ToNanoseconds() / 1e9
        if ttl < 0:
            raise InvalidRequest("a ttl must not be negative", field="ttl")
        self._registry.replace_older(request.session_id, request.epoch)
        session = self._sessions.create(request.session_id, ttl, live=request.live)
        self._registry.own(session, request.epoch)
        response = tracker_pb2.CreateSessionResponse(model=wire.model_info_to_proto(self.components.info))
        response.ttl.FromNanoseconds(int(session.ttl_seconds * 1e9))
        return response

    async def AddPrompt(self, request: tracker_pb2.AddPromptRequest, context: Any) -> Any:
        session = await self._find(request)
        return await session.answers.run(
            request.idempotency_key,
            without_routing(request),
            partial(prompting.add_prompt, self.components, session, request, start_ns=received_ns()),
            cancel_abandoned=True,
        )

    async def AddConcept(self, request: tracker_pb2.AddConceptRequest, context: Any) -> Any:
        session = await self._find(request)
        return await session.answers.run(
            request.idempotency_key,
            without_routing(request),
            partial(concept_calls.add_concept, self.components, session, request, start_ns=received_ns()),
            cancel_abandoned=True,
        )

    async def RemoveConcept(self, request: tracker_pb2.RemoveConceptRequest, context: Any) -> Any:
        return await self._change(
            request,
            partial(remove_concept, concept_id=request.concept_id, keep_objects=request.keep_objects),
            lambda session: tracker_pb2.RemoveConceptResponse(
                concept_ids=session.concepts.by_id, obj_ids=session.obj_ids, revision=session.revision
            ),
        )

    async def ClearPrompts(self, request: tracker_pb2.ClearPromptsRequest, context: Any) -> Any:
        return await self._change(
            request,
            lambda session: session.clear_prompts(request.obj_id, request.frame_index),
            lambda session: tracker_pb2.ClearPromptsResponse(
                obj_ids=session.obj_ids, revision=session.revision
            ),
        )

    async def GetSession(self, request: tracker_pb2.GetSessionRequest, context: Any) -> Any:
        session = await self._find(request)
        await session.replicator.confirm()
        async with session.lock:
            objects = [
                SessionObject(o.obj_id, sorted(o.prompts), o.concept_id, o.is_found)
                for o in session.objects.values()
                if not o.is_dismissed
            ]
            return tracker_pb2.GetSessionResponse(
                revision=session.revision,
                objects=wire.session_objects_to_proto(objects),
                history=wire.history_to_proto(session.history.entries),
                concepts=[wire.session_concept_to_proto(c.added) for c in session.concepts.by_id.values()],
            )

    async def Track(
        self, request_iterator: AsyncIterator[tracker_pb2.TrackRequest], context: Any
    ) -> AsyncIterator[tracker_pb2.TrackResponse]:
        first = await anext(aiter(request_iterator), None)
        if first is None or first.WhichOneof("content") != "config":
            raise InvalidRequest("the first message must be the configuration", field="config")
        options = wire.mask_options_from_proto(first.config.mask_options, field="config.mask_options")
        reverse = wire.reverse_from_proto(first.config.direction)
        session = await self._find(first.config)
        await self._end_earlier_stream(session, first.config.propagation_id)
        with session.propagating():
            async with session.lock:
                session.history.check_room()
                first_prompted = session.first_prompted_frame()
            propagation = Propagation(
                self.components,
                session,
                options,
                reverse=reverse,
                propagation_id=first.config.propagation_id,
            )
            started = tracker_pb2.TrackStarted(
                first_prompted_frame_index=first_prompted, last_frame_index=propagation.last_frame_index
            )
            self._require_not_draining()  # it may have begun since the session was found
            self._propagations.add(propagation)
            try:
                yield tracker_pb2.TrackResponse(started=started)
                async for response in propagation.run(request_iterator):
                    yield response
            finally:
                self._propagations.discard(propagation)
                if self._draining is not None:
                    await session.replicator.flush()

    async def _end_earlier_stream(self, session: Session, propagation_id: str) -> None:
        """End an earlier stream of the resumed propagation, whose gateway may have stopped."""
        deadline = time.monotonic() + TAKE_OVER_SECONDS
        for propagation in list(self._propagations):
            if propagation.has_id(session, propagation_id):
                propagation.end(SessionBusy("another stream resumed", session_id=session.session_id))
                while propagation in self._propagations and time.monotonic() < deadline:
                    await asyncio.sleep(POLL_SECONDS)

    async def RemoveObject(self, request: tracker_pb2.RemoveObjectRequest, context: Any) -> Any:
        return await self._change(
            request,
            lambda session: session.remove_object(request.obj_id),
            lambda session: tracker_pb2.RemoveObjectResponse(
                obj_ids=session.obj_ids, revision=session.revision
            ),
        )

    async def ResetSession(self, request: tracker_pb2.ResetSessionRequest, context: Any) -> Any:
        return await self._change(
            request,
            Session.reset,
            lambda session: tracker_pb2.ResetSessionResponse(revision=session.revision),
        )

    async def RenewSession(self, request: tracker_pb2.RenewSessionRequest, context: Any) -> Any:
        await self._find(request)
        return tracker_pb2.RenewSessionResponse()

    async def DeleteSession(self, request: tracker_pb2.DeleteSessionRequest, context: Any) -> Any:
        session = self._sessions.get(request.session_id)
        if request.epoch < session.epoch:
            raise StaleEpoch(
                "the session has a newer owner", session_id=session.session_id, epoch=session.epoch
            )
        self._sessions.end(request.session_id)
        return tracker_pb2.DeleteSessionResponse()

    async def ExportSession(
        self, request: tracker_pb2.ExportSessionRequest, context: Any
    ) -> AsyncIterator[tracker_pb2.ExportSessionResponse]:
        # Allowed while the tracker drains, because sessions are handed over then.
        async for response in export_session(self._registry, request):
            yield response

    async def ImportSession(
        self, request_iterator: AsyncIterator[tracker_pb2.ImportSessionRequest], context: Any
    ) -> Any:
        self._require_not_draining()
        return await import_session(self._registry, request_iterator)

    async def GetTrackerStatus(self, request: tracker_pb2.GetTrackerStatusRequest, context: Any) -> Any:
        status = wire.service_status_to_proto(tracker_status(self.components, draining=bool(self._draining)))
        return tracker_pb2.GetTrackerStatusResponse(status=status)

    async def GetLoad(self, request: tracker_pb2.GetLoadRequest, context: Any) -> Any:
        return tracker_pb2.GetLoadResponse(
            sessions=len(self._sessions),
            propagating=self._sessions.num_propagating,
            max_sessions=self.components.settings.max_sessions,
            waiting=self.components.worker.num_queued,
            draining=bool(self._draining),
            points=self.components.points.num_points if self.components.points is not None else 0,
        )

    async def GetTrackerModel(self, request: tracker_pb2.GetTrackerModelRequest, context: Any) -> Any:
        return tracker_pb2.GetTrackerModelResponse(model=wire.model_info_to_proto(self.components.info))

    async def _change(
        self, request: Any, change: Callable[[Session], None], respond: Callable[[Session], T]
    ) -> T:
        """Change a session under its lock, on the device's thread because its archive is on disk."""
        session = await self._find(request)

        async def apply(session: Session) -> T:
            await self.components.worker.run(partial(change, session))
            session.record_change(request.idempotency_key, response := respond(session))
            return response

        async def work() -> T:
            async with session.lock:
                session.require_open()
                session.check_revision(expected_revision(request))
                response = await to_its_end(apply(session))
            await session.flushed()
            return response

        return await session.answers.run(request.idempotency_key, without_routing(request), work)

    async def _find(self, request: Any) -> Session:
        """Find the session of a request.  Raises Unavailable if the tracker drains."""
        trace.get_current_span().set_attribute(telemetry.SESSION_ID, request.session_id)
        self._require_not_draining()
        return await self._registry.find(request.session_id, request.epoch)

    def _require_not_draining(self) -> None:
        if self._draining is not None:
            raise self._draining


def make_service(settings: TrackerSettings) -> Service:
    """Create the tracker service."""
    retain_freed_memory()
    servicer = TrackerServicer(settings)

    def register(server: grpc.aio.Server) -> None:
        tracker_pb2_grpc.add_TrackerServiceServicer_to_server(servicer, server)
        points_pb2_grpc.add_PointServiceServicer_to_server(servicer.points, server)

    return Service(
        name="tracker",
        full_name=_SERVICE.full_name,
        register=register,
        start=servicer.start,
        close=servicer.close,
        drain=servicer.drain,
    )
