"""TrackerService over gRPC: messages to values and back, and the order of calls."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from opentelemetry import trace

from maskmesh import telemetry, wire
from maskmesh.errors import InvalidRequest, SessionBusy, StaleEpoch, Unavailable
from maskmesh.history import SessionObject
from maskmesh.internal.v1 import snapshot_pb2, tracker_pb2, tracker_pb2_grpc
from maskmesh.malloc import retain_freed_memory
from maskmesh.rpc.idempotency import KeyedAnswer, request_digest
from maskmesh.rpc.server import Service
from tracker_svc import prompting
from tracker_svc.components import Components
from tracker_svc.config import TrackerSettings
from tracker_svc.metrics import observe_tracker
from tracker_svc.propagation import Propagation
from tracker_svc.sessions.session import Session

logger = logging.getLogger(__name__)

T = TypeVar("T", bound=Message)

DRAIN_PAUSE_SECONDS = 0.05

# A stream that was ended comes to the end of its step first.
ENDING_SECONDS = 60.0


class TrackerServicer(tracker_pb2_grpc.TrackerServiceServicer):
    """Answers calls once :meth:`start` has returned."""

    def __init__(self, settings: TrackerSettings) -> None:
        self.components = Components(settings)
        self._propagations: set[Propagation] = set()
        self._draining: Unavailable | None = None

    async def start(self, port: int) -> None:
        """Load the model and warm it up."""
        await self.components.start(port)
        observe_tracker(self.components)

    async def close(self) -> None:
        """Stop the thread and close the connections."""
        await self.components.close()

    async def drain(self) -> None:
        """Take no more sessions, and let go of those that are here, as soon as somebody takes them.

        Raises nothing; whoever waits for it has had enough at some time.
        """
        self._draining = Unavailable("the tracker is draining", service="tracker", draining="true")
        for propagation in list(self._propagations):
            propagation.end(self._draining)
        while self._propagations or (len(self.components.sessions) and not self.components.keeps_sessions):
            await asyncio.sleep(DRAIN_PAUSE_SECONDS)

    async def SegmentImage(self, request: tracker_pb2.SegmentImageRequest, context: Any) -> Any:
        """See the proto."""
        return await prompting.segment_image(self.components, request)

    async def CreateSession(self, request: tracker_pb2.CreateSessionRequest, context: Any) -> Any:
        """See the proto."""
        self._check_open()
        ttl = request.ttl.ToNanoseconds() / 1e9
        if ttl < 0:
            raise InvalidRequest("a ttl must not be negative", field="ttl")
        session = self.components.sessions.create(request.session_id, ttl, live=request.live)
        self.components.registry.own(session, request.epoch)
        response = tracker_pb2.CreateSessionResponse(model=wire.model_info_to_proto(self.components.info))
        response.ttl.FromNanoseconds(int(session.ttl_seconds * 1e9))
        return response

    async def AddPrompt(self, request: tracker_pb2.AddPromptRequest, context: Any) -> Any:
        """See the proto."""
        session = await self._session(request)
        asked = _as_asked(request)
        return await session.answers.run(
            request.idempotency_key,
            asked,
            lambda: prompting.add_prompt(
                self.components,
                session,
                request,
                lambda response: self._note(session, request.idempotency_key, asked, response),
            ),
            may_stop=True,
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
        session = await self._session(request)
        await self.components.registry.confirm(session)
        async with session.lock:
            objects = [SessionObject(o.obj_id, sorted(o.prompts)) for o in session.objects.values()]
            return tracker_pb2.GetSessionResponse(
                revision=session.revision,
                objects=wire.session_objects_to_proto(objects),
                history=wire.history_to_proto(session.history.entries),
            )

    async def Track(
        self, request_iterator: AsyncIterator[tracker_pb2.TrackRequest], context: Any
    ) -> AsyncIterator[tracker_pb2.TrackResponse]:
        """See the proto."""
        first = await anext(aiter(request_iterator), None)
        if first is None or first.WhichOneof("content") != "config":
            raise InvalidRequest("the configuration comes first", field="config")
        options = wire.mask_options_from_proto(first.config.mask_options, field="config.mask_options")
        reverse = wire.reverse_from_proto(first.config.direction)
        session = await self._session(first.config)
        await self._take_over(session, first.config.propagation_id)
        with session.propagating():
            async with session.lock:
                session.history.check_room()
                first_prompted = session.first_prompted_frame()
            propagation = Propagation(
                session,
                self.components.registry,
                self.components.stepper,
                self.components.embeddings,
                options,
                reverse=reverse,
                propagation_id=first.config.propagation_id,
            )
            started = tracker_pb2.TrackStarted(
                first_prompted_frame_index=first_prompted, last_frame_index=propagation.last_frame_index
            )
            yield tracker_pb2.TrackResponse(started=started)
            self._propagations.add(propagation)
            try:
                async for response in propagation.run(request_iterator):
                    yield response
            finally:
                self._propagations.discard(propagation)
                if self._draining is not None:
                    await self.components.registry.flush(session)

    async def _take_over(self, session: Session, propagation_id: str) -> None:
        """End an earlier stream of a propagation that goes on in another: its caller may be stopped."""
        ending = time.monotonic() + ENDING_SECONDS
        for propagation in list(self._propagations):
            if propagation.is_of(session, propagation_id):
                propagation.end(SessionBusy("another stream resumed", session_id=session.session_id))
                while propagation in self._propagations and time.monotonic() < ending:
                    await asyncio.sleep(DRAIN_PAUSE_SECONDS)

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
        await self._session(request)
        return tracker_pb2.RenewSessionResponse()

    async def DeleteSession(self, request: tracker_pb2.DeleteSessionRequest, context: Any) -> Any:
        """See the proto."""
        session = self.components.sessions.get(request.session_id)
        if request.epoch < session.epoch:
            raise StaleEpoch("the session was moved", session_id=session.session_id, epoch=session.epoch)
        self.components.sessions.delete(request.session_id)
        return tracker_pb2.DeleteSessionResponse()

    async def ExportSession(
        self, request: tracker_pb2.ExportSessionRequest, context: Any
    ) -> AsyncIterator[tracker_pb2.ExportSessionResponse]:
        """See the proto."""
        session = await self.components.registry.find(request.session_id, request.epoch)
        async with session.lock:
            await self.components.registry.confirm(session)
            async for part in self.components.registry.export(session):
                if isinstance(part, snapshot_pb2.SessionSnapshot):
                    yield tracker_pb2.ExportSessionResponse(session=part)
                else:
                    yield tracker_pb2.ExportSessionResponse(state=part)

    async def ImportSession(
        self, request_iterator: AsyncIterator[tracker_pb2.ImportSessionRequest], context: Any
    ) -> Any:
        """See the proto."""
        self._check_open()
        first = await anext(aiter(request_iterator), None)
        if first is None or first.WhichOneof("content") != "config":
            raise InvalidRequest("the configuration comes first", field="config")
        session, restorer = self.components.registry.begin(first.config.session)
        try:
            async for request in request_iterator:
                match request.WhichOneof("content"):
                    case "state":
                        await asyncio.to_thread(restorer.add, request.state)
                    case "finish":
                        restorer.finish()
                        self.components.registry.admit(session, first.config.epoch, is_kept=False)
                        await self.components.registry.flush(session)
                        return tracker_pb2.ImportSessionResponse()
                    case _:
                        raise InvalidRequest("after the configuration come states", field="content")
            raise InvalidRequest("the call ended before its last message", field="content")
        except BaseException:
            self.components.registry.discard(session)
            raise

    async def GetLoad(self, request: tracker_pb2.GetLoadRequest, context: Any) -> Any:
        """See the proto."""
        return tracker_pb2.GetLoadResponse(
            sessions=len(self.components.sessions),
            propagating=self.components.sessions.num_propagating,
            max_sessions=self.components.settings.max_sessions,
            waiting=self.components.worker.num_waiting,
            draining=self._draining is not None,
        )

    async def GetTrackerModel(self, request: tracker_pb2.GetTrackerModelRequest, context: Any) -> Any:
        """See the proto."""
        return tracker_pb2.GetTrackerModelResponse(model=wire.model_info_to_proto(self.components.info))

    async def _change(
        self, request: Any, change: Callable[[Session], None], answer: Callable[[Session], T]
    ) -> T:
        """Change a session in its turn and answer.  Not on the event loop: the archive is on disk."""
        session = await self._session(request)
        asked = _as_asked(request)

        async def once() -> T:
            async with session.lock:
                self.components.registry.check(session)
                session.check_revision(prompting.expected_revision(request))
                await self.components.worker.run(partial(change, session))
                response = answer(session)
                self._note(session, request.idempotency_key, asked, response)
            await self.components.registry.flush(session)
            return response

        return await session.answers.run(request.idempotency_key, asked, once)

    async def _session(self, request: Any) -> Session:
        """The session that a request names."""
        trace.get_current_span().set_attribute(telemetry.SESSION_ID, request.session_id)
        self._check_open()
        return await self.components.registry.find(request.session_id, request.epoch)

    def _check_open(self) -> None:
        """Raises Unavailable where the tracker is about to end."""
        if self._draining is not None:
            raise self._draining

    def _note(self, session: Session, key: str, asked: Message, response: Message) -> None:
        """A session was changed, and what will be answered to that; its lock is held."""
        if key:
            session.answers.commit(KeyedAnswer(key, request_digest(asked), response))
        self.components.registry.note(session)


def _as_asked(request: T) -> T:
    """A request without what another one of equal meaning may have different."""
    asked = type(request)()
    asked.CopyFrom(request)
    for field in ("embedding", "epoch"):
        if field in asked.DESCRIPTOR.fields_by_name:
            asked.ClearField(field)
    return asked


def make_service(settings: TrackerSettings) -> Service:
    """The tracker as a service to run."""
    retain_freed_memory()
    servicer = TrackerServicer(settings)

    def register(server: grpc.aio.Server) -> None:
        tracker_pb2_grpc.add_TrackerServiceServicer_to_server(servicer, server)

    return Service(
        name="tracker",
        full_name=tracker_pb2.DESCRIPTOR.services_by_name["TrackerService"].full_name,
        register=register,
        start=servicer.start,
        close=servicer.close,
        drain=servicer.drain,
    )
