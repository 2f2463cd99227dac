"""EncoderService over gRPC: messages to values and back, nothing else."""

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import grpc
import torch
from opentelemetry import trace

from encoder_svc.cache import CacheKey, Embedding, EmbeddingCache, Outcome, Pin
from encoder_svc.config import EncoderSettings
from encoder_svc.encoder import Encoder
from encoder_svc.loading import load_model
from encoder_svc.metrics import observe_encoder
from encoder_svc.redis_embedding_cache import RedisEmbeddingCache
from maskmesh import telemetry, wire
from maskmesh.errors import EmbeddingNotFound, InvalidRequest, ModelMismatch
from maskmesh.internal.v1 import encoder_pb2, encoder_pb2_grpc
from maskmesh.malloc import retain_freed_memory
from maskmesh.rpc.server import Service, reachable_address
from maskmesh.scheduling.admission import Priority, QueueEntry
from maskmesh.storage.redis_store import RedisStore
from maskmesh.storage.scratch import ScratchFolder
from maskmesh.storage.shared_memory import SHARED_MEMORY_FILE, SHARED_MEMORY_PREFIX, SharedArena
from maskmesh.types import EmbeddingRef, SharedBlock
from maskmesh.wire import fetch_codec

logger = logging.getLogger(__name__)

CHUNK_BYTES = 2**20

# The shared cache is there to save time: what takes longer than this it does not save.
SHARED_SECONDS = 0.25
SHARED_PAUSE_SECONDS = 10.0

_KEY_LENGTH = len("sha256:") + 64

_OUTCOMES = {
    Outcome.HIT: encoder_pb2.CACHE_OUTCOME_HIT,
    Outcome.MISS: encoder_pb2.CACHE_OUTCOME_MISS,
    Outcome.JOINED: encoder_pb2.CACHE_OUTCOME_JOINED,
    Outcome.SHARED_HIT: encoder_pb2.CACHE_OUTCOME_SHARED_HIT,
}


class EncoderServicer(encoder_pb2_grpc.EncoderServiceServicer):
    """Answers calls once :meth:`start` has returned."""

    encoder: Encoder
    cache: EmbeddingCache

    def __init__(self, settings: EncoderSettings) -> None:
        self._settings = settings
        self._memory: ScratchFolder | None = None
        self._shared_cache: RedisEmbeddingCache | None = None

    async def start(self, port: int) -> None:
        """Load the model and warm it up."""
        self._address = self._settings.advertise or reachable_address(self._settings.host, port)
        loaded = await asyncio.to_thread(load_model, self._settings)
        torch.set_num_threads(loaded.layout.threads)
        self.encoder = Encoder(loaded, self._settings)
        self.cache = EmbeddingCache(
            self._settings.cache_bytes, wait_seconds=self._settings.cache_wait_seconds
        )
        await self.encoder.warm_up()
        await asyncio.to_thread(self._share_memory)
        if url := self._settings.cache_url:
            self._shared_cache = RedisEmbeddingCache(
                RedisStore(
                    url,
                    name="shared cache",
                    answer_seconds=SHARED_SECONDS,
                    longest_pause=SHARED_PAUSE_SECONDS,
                ),
                budget_bytes=self._settings.shared_cache_bytes,
                ttl_seconds=self._settings.shared_cache_seconds,
            )
        observe_encoder(self.encoder, self.cache, self._shared_cache)

    def _share_memory(self) -> None:
        """Give embeddings a place where trackers on this machine can read them, if there is one."""
        if (folder := self._settings.shared_memory_dir) is None:
            return
        try:
            self._memory = ScratchFolder(SHARED_MEMORY_PREFIX, folder)
            self.encoder.arena = SharedArena(
                self._memory.path / SHARED_MEMORY_FILE,
                block_bytes=self.encoder.num_bytes,
                budget_bytes=self._settings.cache_bytes,
            )
        except OSError as error:
            logger.warning("no shared memory: %s", error)

    async def close(self) -> None:
        """Stop the threads."""
        if self._shared_cache is not None:
            await self._shared_cache.close()
        if hasattr(self, "encoder"):
            await asyncio.to_thread(self.encoder.close)
        if self._memory is not None:
            await asyncio.to_thread(self._memory.close)

    async def Encode(self, request: encoder_pb2.EncodeRequest, context: Any) -> Any:
        """See the proto."""
        if len(request.key) != _KEY_LENGTH or not request.key.startswith("sha256:"):
            raise InvalidRequest("a key is sha256: and 64 hexadecimal digits", field="key")
        pin = None
        if request.HasField("pin"):
            ttl = request.pin.ttl.ToNanoseconds() / 1e9
            if not request.pin.owner or ttl <= 0:
                raise InvalidRequest("a pin needs an owner and a positive ttl", field="pin")
            pin = Pin(request.pin.owner, ttl)
        span = trace.get_current_span()
        key = self._cache_key(request.tenant, request.key)
        stage_seconds: dict[str, float] = {}
        if not request.HasField("image"):
            found = await self._find(key, pin)
            span.set_attribute(telemetry.CACHE_OUTCOME, "miss" if found is None else found[1].value)
            if found is None:
                if not self.cache.is_under_way(key):
                    self.encoder.check_room(_ticket(request))  # before the image is sent for nothing
                return encoder_pb2.EncodeResponse(cache_outcome=encoder_pb2.CACHE_OUTCOME_MISS)
            embedding, outcome = found
        else:
            recorder = self.encoder.recorder()
            embedding, outcome = await self._encode(request, key, pin, recorder)
            stage_seconds = telemetry.stage_seconds(recorder.records)
            span.set_attribute(telemetry.CACHE_OUTCOME, outcome.value)
        if outcome is not Outcome.MISS and embedding.filled_by and embedding.filled_by.is_valid:
            span.add_link(embedding.filled_by)
        return encoder_pb2.EncodeResponse(
            ref=wire.embedding_ref_to_proto(self._ref(key, embedding)),
            cache_outcome=_OUTCOMES[outcome],
            stage_times=wire.stage_times_to_proto(stage_seconds),
        )

    async def _find(self, key: CacheKey, pin: Pin | None) -> tuple[Embedding, Outcome] | None:
        """An embedding that is here, or that another replica has put into the shared cache."""
        if (here := self.cache.hit(key, pin)) is not None:
            return here, Outcome.HIT
        if (shared := self._shared_cache) is None:
            return None

        async def fetch() -> Embedding:
            if (found := await shared.get(key)) is None or len(found.data) != self.encoder.num_bytes:
                raise EmbeddingNotFound("the embedding is in no cache", key=key.digest)
            return await asyncio.to_thread(self.encoder.adopt, *found)

        try:
            made, outcome = await self.cache.get_or_create(
                key, self.encoder.num_bytes, fetch, pin, counts=False
            )
        except EmbeddingNotFound:
            return None
        return made, Outcome.SHARED_HIT if outcome is Outcome.MISS else outcome

    async def _encode(
        self,
        request: encoder_pb2.EncodeRequest,
        key: CacheKey,
        pin: Pin | None,
        recorder: telemetry.StageRecorder,
    ) -> tuple[Embedding, Outcome]:
        image = wire.image_from_proto(request.image, field="image", max_pixels=self._settings.max_pixels)
        ticket = _ticket(request)
        asked_ns = time.time_ns()
        filled_by = trace.get_current_span().get_span_context()

        async def create() -> Embedding:
            waited: dict[str, telemetry.AttributeValue] = {telemetry.WAITS_FOR: "cache"}
            recorder.add(telemetry.QUEUE, asked_ns, time.time_ns(), waited)
            try:
                made = await self.encoder.encode(
                    image,
                    key=request.key,
                    ticket=ticket,
                    recorder=recorder,
                )
            finally:
                telemetry.emit_soon(recorder.records, None)
            return replace(made, filled_by=filled_by)

        while True:
            try:
                found = await self.cache.get_or_create(key, self.encoder.num_bytes, create, pin, ticket)
                break
            except EmbeddingNotFound:  # who looked for it in the shared cache has not found it
                continue
        if found[1] is Outcome.MISS and self._shared_cache is not None:
            seconds = sum(telemetry.stage_seconds(recorder.records).values())
            self._shared_cache.put(key, found[0], seconds)
        # Work in the trace of another call is what this one waited for; from the work to the call it is a
        # few turns of an event loop that others use too.
        joined = found[1] is not Outcome.MISS
        reason = "encode" if joined else "event_loop"
        since_ns = asked_ns if joined else recorder.records[-1].end_ns
        waits: dict[str, telemetry.AttributeValue] = {telemetry.WAITS_FOR: reason}
        record = telemetry.StageRecord(telemetry.QUEUE, since_ns, time.time_ns(), waits)
        telemetry.emit_soon([record], None)
        return found

    async def Fetch(
        self, request: encoder_pb2.FetchRequest, context: Any
    ) -> AsyncIterator[encoder_pb2.FetchResponse | memoryview]:
        """See the proto."""
        if request.model_id != self.encoder.info.model_id:
            raise ModelMismatch(
                "the embedding was made by another model",
                expected=self.encoder.info.model_id,
                actual=request.model_id,
            )
        embedding = self.cache.get(self._cache_key(request.tenant, request.key))
        header = encoder_pb2.FetchHeader(
            tensors=[wire.tensor_spec_to_proto(spec) for spec in embedding.tensors],
            num_bytes=len(embedding.data),
        )
        arena = self.encoder.arena
        if self._memory is not None and arena is not None:
            header.shared_memory = self._memory.path.name
            can_read = hmac.compare_digest(request.shared_memory_nonce, arena.nonce)
            if can_read and (shared := self._shared_block(embedding)) is not None:
                header.shared_block.CopyFrom(wire.shared_block_to_proto(shared))
        is_shared = header.HasField("shared_block")
        span = trace.get_current_span()
        span.set_attribute(telemetry.BYTES, len(embedding.data))
        span.set_attribute(telemetry.SHARED_MEMORY, is_shared)
        yield encoder_pb2.FetchResponse(header=header)
        if is_shared:
            return
        for start in range(0, len(embedding.data), CHUNK_BYTES):
            yield embedding.data[start : start + CHUNK_BYTES]

    async def Unpin(self, request: encoder_pb2.UnpinRequest, context: Any) -> Any:
        """See the proto."""
        if not request.owner:
            raise InvalidRequest("pins have an owner", field="owner")
        keys = [self._cache_key(request.tenant, key) for key in request.keys]
        return encoder_pb2.UnpinResponse(released=await self.cache.unpin(request.owner, keys))

    async def GetModel(self, request: encoder_pb2.GetModelRequest, context: Any) -> Any:
        """See the proto."""
        return encoder_pb2.GetModelResponse(model=wire.model_info_to_proto(self.encoder.info))

    async def GetCacheStatistics(self, request: encoder_pb2.GetCacheStatisticsRequest, context: Any) -> Any:
        """See the proto."""
        statistics, shared = self.cache.statistics, self._shared_cache
        return encoder_pb2.GetCacheStatisticsResponse(
            shared_hits=0 if shared is None else shared.statistics.hits,
            shared_failures=0 if shared is None else shared.store.failures,
            hits=statistics.hits,
            misses=statistics.misses,
            joined=statistics.joined,
            evictions=statistics.evictions,
            entries=len(self.cache),
            num_bytes=self.cache.num_bytes,
            pinned_bytes=self.cache.pinned_bytes,
            budget_bytes=self.cache.budget_bytes,
        )

    def _cache_key(self, tenant: str, key: str) -> CacheKey:
        return CacheKey(tenant or DEFAULT_TENANT, self.encoder.info.model_id, key)

    def _ref(self, key: CacheKey, embedding: Embedding) -> EmbeddingRef:
        return EmbeddingRef(
            key=key.digest,
            model_id=key.model_id,
            address=self._address,
            num_bytes=len(embedding.data),
            image_width=embedding.image_width,
            image_height=embedding.image_height,
            tenant=key.tenant,
            shared=self._shared_block(embedding),
        )

    def _shared_block(self, embedding: Embedding) -> SharedBlock | None:
        """Where an embedding is in shared memory, if it is."""
        if self._memory is None or embedding.block is None:
            return None
        return SharedBlock(self._memory.path.name, embedding.block)


def _ticket(request: encoder_pb2.EncodeRequest) -> QueueEntry:
    interactive = request.priority == encoder_pb2.ENCODE_PRIORITY_INTERACTIVE
    return QueueEntry(Priority.INTERACTIVE if interactive else Priority.AHEAD, request.tenant)


def make_service(settings: EncoderSettings) -> Service:
    """The encoder as a service to run."""
    retain_freed_memory()
    servicer = EncoderServicer(settings)
    full_name = encoder_pb2.DESCRIPTOR.services_by_name["EncoderService"].full_name

    def register(server: grpc.aio.Server) -> None:
        encoder_pb2_grpc.add_EncoderServiceServicer_to_server(servicer, server)
        fetch = grpc.unary_stream_rpc_method_handler(
            servicer.Fetch, encoder_pb2.FetchRequest.FromString, fetch_codec.serialize
        )
        # In place of the one that was added just now.
        server.add_registered_method_handlers(full_name, {"Fetch": fetch})

    return Service(
        name="encoder",
        full_name=full_name,
        register=register,
        start=servicer.start,
        close=servicer.close,
    )
