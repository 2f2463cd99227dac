"""EncoderService over gRPC."""

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import grpc
from opentelemetry import trace

from encoder_svc import components
from encoder_svc.cache import Embedding, Outcome, Pin
from encoder_svc.components import Components
from encoder_svc.config import EncoderSettings
from encoder_svc.encoder import Encoder
from encoder_svc.metrics import encoder_status, observe_encoders
from encoder_svc.references import cache_key, embedding_ref, shared_block
from maskmesh import telemetry, wire
from maskmesh.embedding_key import EmbeddingKey
from maskmesh.errors import EmbeddingNotFound, InvalidRequest, ModelMismatch
from maskmesh.internal.v1 import embedding_pb2, encoder_pb2, encoder_pb2_grpc
from maskmesh.rpc.server import Service
from maskmesh.rpc.server_interceptor import received_ns
from maskmesh.scheduling.admission import Priority, QueueEntry
from maskmesh.scheduling.malloc import retain_freed_memory
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
        self._cache, self._shared_cache = parts.cache, parts.shared_cache
        observe_encoders(parts.encoders, parts.cache, parts.shared_cache)

    async def close(self) -> None:
        """Stop the threads."""
        if hasattr(self, "components"):
            await self.components.close()

    async def Encode(self, request: encoder_pb2.EncodeRequest, context: Any) -> Any:
        handler = telemetry.StageRecorder()
        try:
            if request.HasField("image"):
                return await self._encode(request, handler)
            return await self._look_up(request, handler)
        finally:
            telemetry.emit_soon(handler.records, None)

    async def _look_up(self, request: encoder_pb2.EncodeRequest, handler: telemetry.StageRecorder) -> Any:
        with handler.handling(telemetry.CACHE_LOOKUP, received_ns()):
            encoder = self._encoder_of(request.family)
            key, pin = self._key_and_pin(request, encoder)
            queue_entry = _queue_entry(request)
            cached = await self._find_cached(key, pin, encoder, queue_entry)
            if cached is not None:
                return self._response(key, encoder, *cached, handler.records)
            trace.get_current_span().set_attribute(telemetry.CACHE_OUTCOME, Outcome.MISS.value)
            if not self._cache.is_filling(key):
                # Refuse now rather than after the caller has sent the image.
                encoder.check_room(queue_entry)
            return encoder_pb2.EncodeResponse(cache_outcome=encoder_pb2.CACHE_OUTCOME_MISS)

    def _encoder_of(self, family: embedding_pb2.ModelFamily) -> Encoder:
        """The encoder of a family of models.  Raises InvalidRequest if this service has none."""
        encoder = (
            self.components.point_encoder
            if family == embedding_pb2.MODEL_FAMILY_POINTS
            else self.components.encoder
        )
        if encoder is None or family not in embedding_pb2.ModelFamily.values():
            raise InvalidRequest(
                "this encoder has no model of the family: --point-model sets one", field="family"
            )
        return encoder

    def _key_and_pin(
        self, request: encoder_pb2.EncodeRequest, encoder: Encoder
    ) -> tuple[EmbeddingKey, Pin | None]:
        """The cache key and the pin of a request.  Raises InvalidRequest."""
        if len(request.key) != _KEY_LENGTH or not request.key.startswith("sha256:"):
            raise InvalidRequest("the key must be sha256: followed by 64 hexadecimal digits", field="key")
        key = cache_key(request.tenant, request.key, encoder)
        if not request.HasField("pin"):
            return key, None
        ttl = request.pin.ttl.ToNanoseconds() / 1e9
        if not request.pin.owner or ttl <= 0:
            raise InvalidRequest("a pin needs an owner and a positive ttl", field="pin")
        return key, Pin(request.pin.owner, ttl)

    def _response(
        self,
        key: EmbeddingKey,
        encoder: Encoder,
        embedding: Embedding,
        outcome: Outcome,
        records: Sequence[telemetry.StageRecord],
    ) -> encoder_pb2.EncodeResponse:
        """The response with an embedding's reference; ``records`` are what was done for it."""
        span, filled_by = trace.get_current_span(), embedding.filled_by
        span.set_attribute(telemetry.CACHE_OUTCOME, outcome.value)
        response = encoder_pb2.EncodeResponse(
            ref=wire.embedding_ref_to_proto(embedding_ref(key, encoder, embedding, self.components.address)),
            cache_outcome=_OUTCOMES[outcome],
            stage_times=wire.stage_times_to_proto(telemetry.stage_seconds(records)),
            work=wire.work_to_proto(telemetry.WorkSummary().add_records(records)),
        )
        if filled_by is not None and filled_by.is_valid:
            response.filled_by = telemetry.traceparent(filled_by)
            if outcome is not Outcome.MISS:
                span.add_link(filled_by)
        return response

    async def _find_cached(
        self, key: EmbeddingKey, pin: Pin | None, encoder: Encoder, queue_entry: QueueEntry
    ) -> tuple[Embedding, Outcome] | None:
        """An embedding in this encoder's cache or in the shared cache, or one that is being encoded.

        An encode in progress that has a lower priority than ``queue_entry`` gets its priority.
        """
        if (cached := self._cache.hit(key, pin)) is not None:
            return cached, Outcome.HIT
        if (shared := self._shared_cache) is None:
            return None

        async def fetch() -> Embedding:
            tensors = await shared.get(key)
            if tensors is None or len(tensors.data) != encoder.num_bytes:
                raise EmbeddingNotFound("the embedding is not in any cache", key=key.digest)
            return await asyncio.to_thread(encoder.adopt, *tensors)

        try:
            embedding, outcome = await self._cache.get_or_create(
                key, encoder.num_bytes, fetch, pin, queue_entry, counts=False
            )
        except EmbeddingNotFound:
            return None
        return embedding, Outcome.SHARED_HIT if outcome is Outcome.MISS else outcome

    async def _encode(self, request: encoder_pb2.EncodeRequest, handler: telemetry.StageRecorder) -> Any:
        with handler.handling(telemetry.PREPARE, received_ns()):
            encoder = self._encoder_of(request.family)
            key, pin = self._key_and_pin(request, encoder)
            image = wire.image_from_proto(request.image, field="image", limit=self._settings.pixel_limit)
            queue_entry = _queue_entry(request)
            filled_by = trace.get_current_span().get_span_context()
            recorder = encoder.recorder()
        start_ns = time.time_ns()

        async def create() -> Embedding:
            recorder.wait(start_ns, time.time_ns(), "cache")
            try:
                embedding = await encoder.encode(image, key=request.key, entry=queue_entry, recorder=recorder)
            finally:
                telemetry.emit_soon(recorder.records, None)
            return replace(embedding, filled_by=filled_by)

        while True:
            try:
                embedding, outcome = await self._cache.get_or_create(
                    key, encoder.num_bytes, create, pin, queue_entry
                )
                break
            except EmbeddingNotFound:  # this call joined a lookup in the shared cache, which failed
                continue
        if outcome is Outcome.MISS:
            # The call that encoded waited for the event loop.
            handler.wait(recorder.records[-1].end_ns, time.time_ns(), "event_loop")
        else:
            handler.wait(start_ns, time.time_ns(), "encode")  # of another call
        with handler.handling(telemetry.RESPOND):
            stages = recorder.records if outcome is Outcome.MISS else []
            if outcome is Outcome.MISS and self._shared_cache is not None:
                self._shared_cache.put(key, embedding, sum(telemetry.stage_seconds(stages).values()))
            return self._response(key, encoder, embedding, outcome, [*stages, *handler.records])

    async def Fetch(
        self, request: encoder_pb2.FetchRequest, context: Any
    ) -> AsyncIterator[encoder_pb2.FetchResponse | memoryview]:
        handler = telemetry.StageRecorder()
        try:
            with handler.handling(telemetry.SEND_EMBEDDING, received_ns()):
                encoder = self._encoder_with(request.model_id)
                embedding = self._cache.get(cache_key(request.tenant, request.key, encoder))
                header = encoder_pb2.FetchHeader(
                    tensors=[wire.tensor_spec_to_proto(spec) for spec in embedding.tensors],
                    num_bytes=len(embedding.data),
                )
                arena = encoder.arena
                if encoder.shared_memory is not None and arena is not None:
                    header.shared_memory = encoder.shared_memory.path.name
                    can_read = hmac.compare_digest(request.shared_memory_nonce, arena.nonce)
                    if can_read and (shared := shared_block(embedding, encoder)) is not None:
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
        finally:
            telemetry.emit(handler.records, None)

    async def Unpin(self, request: encoder_pb2.UnpinRequest, context: Any) -> Any:
        if not request.owner:
            raise InvalidRequest("the owner must not be empty", field="owner")
        keys = [cache_key(request.tenant, k, e) for e in self.components.encoders for k in request.keys]
        return encoder_pb2.UnpinResponse(released=await self._cache.unpin(request.owner, keys))

    async def GetModel(self, request: encoder_pb2.GetModelRequest, context: Any) -> Any:
        info = self._encoder_of(request.family).info
        return encoder_pb2.GetModelResponse(model=wire.model_info_to_proto(info))

    async def GetEncoderStatus(self, request: encoder_pb2.GetEncoderStatusRequest, context: Any) -> Any:
        status = encoder_status(self.components.encoders, self._cache, self._shared_cache)
        return encoder_pb2.GetEncoderStatusResponse(status=wire.service_status_to_proto(status))

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

    def _encoder_with(self, model_id: str) -> Encoder:
        """The encoder of a model.  Raises ModelMismatch if this service does not have the model."""
        for encoder in self.components.encoders:
            if encoder.info.model_id == model_id:
                return encoder
        raise ModelMismatch(
            "the embedding was made by another model",
            expected=", ".join(encoder.info.model_id for encoder in self.components.encoders),
            actual=model_id,
        )


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
