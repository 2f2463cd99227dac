"""EncoderService over gRPC."""

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import grpc
from opentelemetry import trace

from encoder_svc import components
from encoder_svc.cache import Embedding, Outcome, Pin
from encoder_svc.components import Components
from encoder_svc.config import EncoderSettings
from encoder_svc.metrics import observe_encoder
from maskmesh import telemetry, wire
from maskmesh.embedding_key import EmbeddingKey
from maskmesh.errors import EmbeddingNotFound, InvalidRequest, ModelMismatch
from maskmesh.internal.v1 import encoder_pb2, encoder_pb2_grpc
from maskmesh.malloc import retain_freed_memory
from maskmesh.rpc.server import Service
from maskmesh.scheduling.admission import Priority, QueueEntry
from maskmesh.types import DEFAULT_TENANT, EmbeddingRef, SharedBlock
from maskmesh.wire import fetch_codec

logger = logging.getLogger(__name__)

CHUNK_BYTES = 2**20

_KEY_LENGTH = len("sha256:") + 64

_OUTCOMES = {
    Outcome.HIT: encoder_pb2.CACHE_OUTCOME_HIT,
    Outcome.MISS: encoder_pb2.CACHE_OUTCOME_MISS,
    Outcome.JOINED: encoder_pb2.CACHE_OUTCOME_JOINED,
    Outcome.SHARED_HIT: encoder_pb2.CACHE_OUTCOME_SHARED_HIT,
}


class EncoderServicer(encoder_pb2_grpc.EncoderServiceServicer):
    """Serves calls once :meth:`start` has returned.  The proto describes its methods."""

    components: Components

    def __init__(self, settings: EncoderSettings) -> None:
        self._settings = settings

    async def start(self, port: int) -> None:
        """Load the model and warm it up.  Raises CheckpointError, OSError."""
        self.components = parts = await components.start(self._settings, port)
        self._encoder, self._cache, self._shared_cache = parts.encoder, parts.cache, parts.shared_cache
        observe_encoder(parts.encoder, parts.cache, parts.shared_cache)

    async def close(self) -> None:
        """Stop the threads."""
        if hasattr(self, "components"):
            await self.components.close()

    async def Encode(self, request: encoder_pb2.EncodeRequest, context: Any) -> Any:
        if len(request.key) != _KEY_LENGTH or not request.key.startswith("sha256:"):
            raise InvalidRequest("the key must be sha256: followed by 64 hexadecimal digits", field="key")
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
            cached = await self._find_cached(key, pin)
            span.set_attribute(telemetry.CACHE_OUTCOME, "miss" if cached is None else cached[1].value)
            if cached is None:
                if not self._cache.is_filling(key):
                    # Refuse now rather than after the caller has sent the image.
                    self._encoder.check_room(_queue_entry(request))
                return encoder_pb2.EncodeResponse(cache_outcome=encoder_pb2.CACHE_OUTCOME_MISS)
            embedding, outcome = cached
        else:
            recorder = self._encoder.recorder()
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

    async def _find_cached(self, key: EmbeddingKey, pin: Pin | None) -> tuple[Embedding, Outcome] | None:
        """An embedding in this encoder's cache or in the shared cache."""
        if (cached := self._cache.hit(key, pin)) is not None:
            return cached, Outcome.HIT
        if (shared := self._shared_cache) is None:
            return None

        async def fetch() -> Embedding:
            tensors = await shared.get(key)
            if tensors is None or len(tensors.data) != self._encoder.num_bytes:
                raise EmbeddingNotFound("the embedding is not in any cache", key=key.digest)
            return await asyncio.to_thread(self._encoder.adopt, *tensors)

        try:
            embedding, outcome = await self._cache.get_or_create(
                key, self._encoder.num_bytes, fetch, pin, counts=False
            )
        except EmbeddingNotFound:
            return None
        return embedding, Outcome.SHARED_HIT if outcome is Outcome.MISS else outcome

    async def _encode(
        self,
        request: encoder_pb2.EncodeRequest,
        key: EmbeddingKey,
        pin: Pin | None,
        recorder: telemetry.StageRecorder,
    ) -> tuple[Embedding, Outcome]:
        image = wire.image_from_proto(request.image, field="image", limit=self._settings.pixel_limit)
        queue_entry = _queue_entry(request)
        start_ns = time.time_ns()
        filled_by = trace.get_current_span().get_span_context()

        async def create() -> Embedding:
            recorder.wait(start_ns, time.time_ns(), "cache")
            try:
                embedding = await self._encoder.encode(
                    image, key=request.key, entry=queue_entry, recorder=recorder
                )
            finally:
                telemetry.emit_soon(recorder.records, None)
            return replace(embedding, filled_by=filled_by)

        while True:
            try:
                embedding, outcome = await self._cache.get_or_create(
                    key, self._encoder.num_bytes, create, pin, queue_entry
                )
                break
            except EmbeddingNotFound:  # this call joined a lookup in the shared cache, which failed
                continue
        if outcome is Outcome.MISS and self._shared_cache is not None:
            seconds = sum(telemetry.stage_seconds(recorder.records).values())
            self._shared_cache.put(key, embedding, seconds)
        # A call that joined waited for the encode of another call; the call that encoded waited for the
        # event loop.
        is_joined = outcome is not Outcome.MISS
        reason = "encode" if is_joined else "event_loop"
        since_ns = start_ns if is_joined else recorder.records[-1].end_ns
        record = telemetry.StageRecord(
            telemetry.QUEUE, since_ns, time.time_ns(), {telemetry.WAITS_FOR: reason}
        )
        telemetry.emit_soon([record], None)
        return embedding, outcome

    async def Fetch(
        self, request: encoder_pb2.FetchRequest, context: Any
    ) -> AsyncIterator[encoder_pb2.FetchResponse | memoryview]:
        if request.model_id != self._encoder.info.model_id:
            raise ModelMismatch(
                "the embedding was made by another model",
                expected=self._encoder.info.model_id,
                actual=request.model_id,
            )
        embedding = self._cache.get(self._cache_key(request.tenant, request.key))
        header = encoder_pb2.FetchHeader(
            tensors=[wire.tensor_spec_to_proto(spec) for spec in embedding.tensors],
            num_bytes=len(embedding.data),
        )
        arena = self._encoder.arena
        if self.components.shared_memory is not None and arena is not None:
            header.shared_memory = self.components.shared_memory.path.name
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
        if not request.owner:
            raise InvalidRequest("the owner must not be empty", field="owner")
        keys = [self._cache_key(request.tenant, key) for key in request.keys]
        return encoder_pb2.UnpinResponse(released=await self._cache.unpin(request.owner, keys))

    async def GetModel(self, request: encoder_pb2.GetModelRequest, context: Any) -> Any:
        return encoder_pb2.GetModelResponse(model=wire.model_info_to_proto(self._encoder.info))

    async def GetCacheStatistics(self, request: encoder_pb2.GetCacheStatisticsRequest, context: Any) -> Any:
        statistics, shared = self._cache.statistics, self._shared_cache
        return encoder_pb2.GetCacheStatisticsResponse(
            shared_hits=0 if shared is None else shared.statistics.hits,
            shared_failures=0 if shared is None else shared.store.failures,
            hits=statistics.hits,
            misses=statistics.misses,
            joined=statistics.joined,
            evictions=statistics.evictions,
            entries=len(self._cache),
            num_bytes=self._cache.num_bytes,
            pinned_bytes=self._cache.pinned_bytes,
            budget_bytes=self._cache.budget_bytes,
        )

    def _cache_key(self, tenant: str, key: str) -> EmbeddingKey:
        return EmbeddingKey(tenant or DEFAULT_TENANT, self._encoder.info.model_id, key)

    def _ref(self, key: EmbeddingKey, embedding: Embedding) -> EmbeddingRef:
        return EmbeddingRef(
            key=key.digest,
            model_id=key.model_id,
            address=self.components.address,
            num_bytes=len(embedding.data),
            image_width=embedding.image_width,
            image_height=embedding.image_height,
            tenant=key.tenant,
            shared=self._shared_block(embedding),
        )

    def _shared_block(self, embedding: Embedding) -> SharedBlock | None:
        """The embedding's block in shared memory; None if the embedding is not in shared memory."""
        if self.components.shared_memory is None or embedding.block is None:
            return None
        return SharedBlock(self.components.shared_memory.path.name, embedding.block)


def _queue_entry(request: encoder_pb2.EncodeRequest) -> QueueEntry:
    interactive = request.priority == encoder_pb2.ENCODE_PRIORITY_INTERACTIVE
    return QueueEntry(Priority.INTERACTIVE if interactive else Priority.AHEAD, request.tenant)


def make_service(settings: EncoderSettings) -> Service:
    """Create the encoder service."""
    retain_freed_memory()
    servicer = EncoderServicer(settings)
    full_name = encoder_pb2.DESCRIPTOR.services_by_name["EncoderService"].full_name

    def register(server: grpc.aio.Server) -> None:
        encoder_pb2_grpc.add_EncoderServiceServicer_to_server(servicer, server)
        fetch = grpc.unary_stream_rpc_method_handler(
            servicer.Fetch, encoder_pb2.FetchRequest.FromString, fetch_codec.serialize
        )
        # Replaces the handler of ``Fetch`` with one that serialises chunks without a copy.
        server.add_registered_method_handlers(full_name, {"Fetch": fetch})

    return Service(
        name="encoder",
        full_name=full_name,
        register=register,
        start=servicer.start,
        close=servicer.close,
    )
