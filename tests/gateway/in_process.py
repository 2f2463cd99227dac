"""A gateway in the test's process, between a real client and fake encoder and tracker services.

All of them speak gRPC over loopback.  The fakes keep the contract of the internal protos, without a model: a
mask has one pixel, in the column of its object's number.
"""

import asyncio
import contextlib
import time
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from gateway.config import GatewaySettings
from gateway.service import make_service
from maskmesh import AsyncClient, ObjectMask, RleMask, wire
from maskmesh.errors import EmbeddingNotFound, MaskmeshError, SessionNotFound, StaleEpoch, Unavailable
from maskmesh.internal.v1 import embedding_pb2, encoder_pb2, encoder_pb2_grpc, tracker_pb2, tracker_pb2_grpc
from maskmesh.masks import ByteArray
from maskmesh.rpc.channel import SERVER_KEEPALIVE_OPTIONS
from maskmesh.rpc.server_interceptor import CallGate, ServerInterceptor
from maskmesh.status import CacheStatus, ServiceStatus, SessionCounts
from maskmesh.types import EmbeddingRef, ModelInfo
from maskmesh.v1 import session_pb2, types_pb2

WIDTH, HEIGHT = 16, 8
MODEL = ModelInfo(
    model_id="fake",
    name="fake",
    image_size=64,
    trained=False,
    parameters=0,
    device="cpu",
    dtype="float32",
    threads=1,
)


def image(index: int) -> ByteArray:
    """An image; two images are equal only if their indices are equal."""
    return np.full((HEIGHT, WIDTH, 3), index, dtype=np.uint8)


@contextlib.asynccontextmanager
async def serving(
    name: str, register: Callable[[grpc.aio.Server], None], service: str = ""
) -> AsyncIterator[tuple[grpc.aio.Server, str]]:
    """A server on a free port, with health checks; yields it and its address."""
    gate = CallGate(name, 100, closed_because="")
    server = grpc.aio.server(
        interceptors=[ServerInterceptor(gate, None, is_edge=name == "gateway")],
        options=SERVER_KEEPALIVE_OPTIONS,
    )
    register(server)
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    if service:
        await checks.set(service, health_pb2.HealthCheckResponse.SERVING)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield server, f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


class FakeEncoder(encoder_pb2_grpc.EncoderServiceServicer):
    """Counts encodes instead of computing embeddings."""

    def __init__(self) -> None:
        self.address = ""
        self.encoded: list[str] = []
        """Keys of encoded images, in order."""
        self.cached: set[str] = set()
        self.unpinned: list[str] = []
        self.errors: list[MaskmeshError] = []
        """Raised by the next calls of Encode, one each."""

    async def Encode(self, request: encoder_pb2.EncodeRequest, context: Any) -> encoder_pb2.EncodeResponse:
        if self.errors:
            raise self.errors.pop(0)
        if request.HasField("image"):
            self.encoded.append(request.key)
            self.cached.add(request.key)
        if request.key not in self.cached:
            return encoder_pb2.EncodeResponse()
        ref = EmbeddingRef(request.key, MODEL.model_id, self.address, 1, WIDTH, HEIGHT)
        return encoder_pb2.EncodeResponse(ref=wire.embedding_ref_to_proto(ref))

    async def Unpin(self, request: encoder_pb2.UnpinRequest, context: Any) -> encoder_pb2.UnpinResponse:
        self.unpinned.append(request.owner)
        return encoder_pb2.UnpinResponse()

    async def GetEncoderStatus(self, request: Any, context: Any) -> encoder_pb2.GetEncoderStatusResponse:
        cache = CacheStatus(
            hits=3,
            misses=2,
            joined=1,
            evictions=0,
            entries=2,
            used_bytes=20,
            pinned_bytes=10,
            budget_bytes=99,
        )
        status = ServiceStatus(kind="encoder", model=MODEL, queues={"device": 4}, cache=cache)
        return encoder_pb2.GetEncoderStatusResponse(status=wire.service_status_to_proto(status))

    async def GetModel(self, request: Any, context: Any) -> encoder_pb2.GetModelResponse:
        return encoder_pb2.GetModelResponse(model=wire.model_info_to_proto(MODEL))


@dataclass
class FakeSession:
    """The state of a session in a fake tracker."""

    epoch: int
    prompts: dict[int, int] = field(default_factory=dict)
    """The frame of each object's first prompt."""
    revision: int = 0
    tracked: list[int] = field(default_factory=list)


class FakeTracker(tracker_pb2_grpc.TrackerServiceServicer):
    """A tracker that returns one-pixel masks; ``permits`` controls when it tracks a frame."""

    def __init__(self) -> None:
        self.sessions: dict[str, FakeSession] = {}
        self.calls: Counter[str] = Counter()
        self.errors: defaultdict[str, list[MaskmeshError]] = defaultdict(list)
        """Raised by the next calls of a method, one each; for Track, instead of the next result."""
        self.permits: asyncio.Semaphore | None = None
        """One permit is taken for each tracked frame; None tracks all."""
        self.lost_embeddings: set[int] = set()
        """Frames whose embeddings are requested again, once."""
        self.open_streams = 0
        self.is_draining = False
        self.clock_ahead_seconds = 0.0

    def _find(self, method: str, request: Any) -> FakeSession:
        self.calls[method] += 1
        if self.is_draining and method != "ExportSession":
            raise Unavailable("the tracker is draining", draining="true")
        if self.errors[method]:
            raise self.errors[method].pop(0)
        session = self.sessions.get(request.session_id)
        if session is None:
            raise SessionNotFound("there is no such session", session_id=request.session_id)
        if session.epoch != request.epoch:
            raise StaleEpoch("the session has another owner")
        return session

    async def CreateSession(self, request: Any, context: Any) -> tracker_pb2.CreateSessionResponse:
        self.calls["CreateSession"] += 1
        self.sessions[request.session_id] = FakeSession(request.epoch)
        return tracker_pb2.CreateSessionResponse(ttl=request.ttl, model=wire.model_info_to_proto(MODEL))

    async def AddPrompt(self, request: Any, context: Any) -> tracker_pb2.AddPromptResponse:
        session = self._find("AddPrompt", request)
        if request.frame_index in self.lost_embeddings:
            self.lost_embeddings.discard(request.frame_index)
            raise EmbeddingNotFound("the embedding is gone")
        session.prompts.setdefault(request.obj_id, request.frame_index)
        session.revision += 1
        return tracker_pb2.AddPromptResponse(mask=mask(request.obj_id), revision=session.revision)

    async def RemoveObject(self, request: Any, context: Any) -> tracker_pb2.RemoveObjectResponse:
        session = self._find("RemoveObject", request)
        session.prompts.pop(request.obj_id, None)
        session.revision += 1
        return tracker_pb2.RemoveObjectResponse(obj_ids=list(session.prompts), revision=session.revision)

    async def GetSession(self, request: Any, context: Any) -> tracker_pb2.GetSessionResponse:
        session = self._find("GetSession", request)
        objects = [
            session_pb2.SessionObject(obj_id=obj_id, prompted_frames=[frame])
            for obj_id, frame in session.prompts.items()
        ]
        return tracker_pb2.GetSessionResponse(revision=session.revision, objects=objects)

    async def RenewSession(self, request: Any, context: Any) -> tracker_pb2.RenewSessionResponse:
        self._find("RenewSession", request)
        return tracker_pb2.RenewSessionResponse()

    async def DeleteSession(self, request: Any, context: Any) -> tracker_pb2.DeleteSessionResponse:
        self.calls["DeleteSession"] += 1
        self.sessions.pop(request.session_id, None)
        return tracker_pb2.DeleteSessionResponse()

    async def GetTrackerModel(self, request: Any, context: Any) -> tracker_pb2.GetTrackerModelResponse:
        return tracker_pb2.GetTrackerModelResponse(model=wire.model_info_to_proto(MODEL))

    async def GetTrackerStatus(self, request: Any, context: Any) -> tracker_pb2.GetTrackerStatusResponse:
        if self.errors["GetTrackerStatus"]:
            raise self.errors["GetTrackerStatus"].pop()
        counts = SessionCounts(open=len(self.sessions), propagating=self.open_streams, limit=8)
        status = ServiceStatus(
            kind="tracker",
            sessions=counts,
            draining=self.is_draining,
            unix_nanos=time.time_ns() + int(self.clock_ahead_seconds * 1e9),
        )
        return tracker_pb2.GetTrackerStatusResponse(status=wire.service_status_to_proto(status))

    async def GetLoad(self, request: Any, context: Any) -> tracker_pb2.GetLoadResponse:
        return tracker_pb2.GetLoadResponse(
            sessions=len(self.sessions), max_sessions=8, draining=self.is_draining
        )

    async def Track(self, request_iterator: Any, context: Any) -> AsyncIterator[tracker_pb2.TrackResponse]:
        requests = aiter(request_iterator)
        config = (await anext(requests)).config
        session = self._find("Track", config)
        started = tracker_pb2.TrackStarted(
            first_prompted_frame_index=min(session.prompts.values(), default=0)
        )
        if session.tracked:
            started.last_frame_index = session.tracked[-1]
        self.open_streams += 1
        try:
            yield tracker_pb2.TrackResponse(started=started)
            waiting: deque[tracker_pb2.TrackRequest] = deque()
            while True:
                request = waiting.popleft() if waiting else await anext(requests, None)
                if request is None:
                    break
                index = request.frame.frame_index
                if index in self.lost_embeddings:
                    self.lost_embeddings.discard(index)
                    needed = tracker_pb2.EmbeddingNeeded(frame_index=index)
                    yield tracker_pb2.TrackResponse(embedding_needed=needed)
                    while (overtaking := await anext(requests)).WhichOneof("content") != "embedding":
                        waiting.append(overtaking)
                    assert overtaking.embedding.frame_index == index
                if self.permits is not None:
                    await self.permits.acquire()
                session = self._find("Track", config)
                session.tracked.append(index)
                masks = types_pb2.FrameMasks(
                    frame_index=index,
                    objects=[mask(obj_id) for obj_id in session.prompts],
                    width=WIDTH,
                    height=HEIGHT,
                )
                result = tracker_pb2.TrackResult(frame=masks, handling=embedding_pb2.Handling())
                yield tracker_pb2.TrackResponse(result=result)
        finally:
            self.open_streams -= 1

    async def ExportSession(self, request: Any, context: Any) -> AsyncIterator[Any]:
        session = self._find("ExportSession", request)
        snapshot = tracker_pb2.ExportSessionResponse()
        snapshot.session.session_id = request.session_id
        yield snapshot
        # The fakes share a process: the copy needs no states on the wire.
        _EXPORTED[request.session_id] = session

    async def ImportSession(self, request_iterator: Any, context: Any) -> tracker_pb2.ImportSessionResponse:
        self.calls["ImportSession"] += 1
        async for request in request_iterator:
            if request.HasField("config"):
                config = request.config
        exported = _EXPORTED.pop(config.session.session_id)
        self.sessions[config.session.session_id] = FakeSession(
            config.epoch, dict(exported.prompts), exported.revision, list(exported.tracked)
        )
        return tracker_pb2.ImportSessionResponse()


_EXPORTED: dict[str, FakeSession] = {}


def mask(obj_id: int) -> types_pb2.ObjectMask:
    """One pixel in the column of the object's number."""
    pixels = np.zeros((HEIGHT, WIDTH), dtype=bool)
    pixels[0, obj_id] = True
    return wire.object_mask_to_proto(ObjectMask(obj_id, RleMask.encode(pixels), 0.9, 3.0))


@dataclass
class InProcess:
    """A running gateway with its fakes and a client."""

    address: str
    client: AsyncClient
    encoder: FakeEncoder
    trackers: list[FakeTracker]
    servers: list[grpc.aio.Server]
    """The servers of the trackers."""
    settings: GatewaySettings

    def tracker_of(self, session_id: str) -> FakeTracker:
        """The fake tracker that owns a session."""
        [tracker] = [t for t in self.trackers if session_id in t.sessions]
        return tracker


@contextlib.asynccontextmanager
async def running_gateway(folder: Path, *, trackers: int = 1, **settings: Any) -> AsyncIterator[InProcess]:
    """A gateway in this process, with ``settings`` of GatewaySettings."""
    async with contextlib.AsyncExitStack() as stack:
        encoder = FakeEncoder()

        def register_encoder(server: grpc.aio.Server) -> None:
            encoder_pb2_grpc.add_EncoderServiceServicer_to_server(encoder, server)

        encoder_name = "maskmesh.internal.v1.EncoderService"
        _, encoder.address = await stack.enter_async_context(
            serving("encoder", register_encoder, encoder_name)
        )
        fakes = [FakeTracker() for _ in range(trackers)]
        servers, addresses = [], []
        for fake in fakes:

            def register_tracker(server: grpc.aio.Server, fake: FakeTracker = fake) -> None:
                tracker_pb2_grpc.add_TrackerServiceServicer_to_server(fake, server)

            server, address = await stack.enter_async_context(serving("tracker", register_tracker))
            servers.append(server)
            addresses.append(address)
        made = GatewaySettings(
            encoder=encoder.address, tracker=",".join(addresses), data_dir=folder, port=0, **settings
        )
        address, client = await stack.enter_async_context(_serving_gateway(made))
        for fake in fakes:
            fake.calls.clear()
        encoder.encoded.clear()
        yield InProcess(address, client, encoder, fakes, servers, made)


@contextlib.asynccontextmanager
async def replica_of(gateway: InProcess, folder: Path) -> AsyncIterator[AsyncClient]:
    """Another gateway with the same encoder and trackers; yields its client."""
    settings = gateway.settings.model_copy(update={"data_dir": folder})
    async with _serving_gateway(settings) as (_, client):
        yield client


@contextlib.asynccontextmanager
async def _serving_gateway(settings: GatewaySettings) -> AsyncIterator[tuple[str, AsyncClient]]:
    async with contextlib.AsyncExitStack() as stack:
        service = make_service(settings)
        await service.start(0)
        stack.push_async_callback(service.close)
        _, address = await stack.enter_async_context(serving("gateway", service.register))
        yield address, await stack.enter_async_context(AsyncClient(address, timeout=30))
