"""Embeddings on this side of the cut: fetched once, kept while they are likely to be needed again."""

import asyncio
import time
from collections.abc import Sequence

import grpc
import numpy as np
import torch
from cachetools import LRUCache
from opentelemetry.trace import SpanKind

from maskmesh import telemetry, wire
from maskmesh.channels import open_channel
from maskmesh.errors import EmbeddingNotFound, ModelMismatch, from_rpc_error
from maskmesh.internal.v1 import encoder_pb2, encoder_pb2_grpc
from maskmesh.types import EmbeddingRef, TensorSpec
from tracker_svc.model.tracking_model import ImageFeatures
from tracker_svc.tracker import Frame

# A replica that says nothing for so long has gone.
FETCH_SECONDS = 60.0

_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


class EmbeddingStore:
    """Fetches embeddings from the replica that holds them.

    At most ``budget_bytes`` are kept, least recently used first; concurrent requests for one embedding
    fetch it once.  Used on one event loop only.
    """

    def __init__(
        self, *, model_id: str, device: torch.device, budget_bytes: int, max_message_bytes: int
    ) -> None:
        self._model_id = model_id
        self._device = device
        self._max_message_bytes = max_message_bytes
        self._kept: LRUCache[tuple[str, str], Frame] = LRUCache(budget_bytes, getsizeof=_num_bytes)
        self._fetching: dict[tuple[str, str], asyncio.Task[Frame]] = {}
        self._channels: dict[str, grpc.aio.Channel] = {}

    def check(self, ref: EmbeddingRef) -> None:
        """Raises ModelMismatch for an embedding of another model."""
        if ref.model_id != self._model_id:
            raise ModelMismatch(
                "the embedding was made by another model",
                field="embedding.model_id",
                expected=self._model_id,
                actual=ref.model_id,
            )

    async def get(self, ref: EmbeddingRef, *, since_ns: int | None = None) -> Frame:
        """The embedding behind a reference; ``since_ns`` is when it was asked for, by default now.

        Raises ModelMismatch, and EmbeddingNotFound where it is gone or its replica is out of reach.
        """
        self.check(ref)
        key = (ref.tenant, ref.key)
        kept = self._kept.get(key)
        if kept is not None:
            return kept
        task = self._fetching.get(key)
        if task is None:
            task = asyncio.ensure_future(self._fetch(ref, since_ns))
            self._fetching[key] = task
            task.add_done_callback(lambda _: self._fetching.pop(key, None))
            joined = False
        else:
            joined = True
        start = time.time_ns()
        # One caller that leaves must not take the embedding from the others.
        frame = await asyncio.shield(task)
        if joined:
            # The fetch is in the trace of whoever began it; here it is what this one waited for.
            record = telemetry.StageRecord(telemetry.FETCH_EMBEDDING, start, time.time_ns())
            telemetry.emit([record], None)
        if _num_bytes(frame) <= self._kept.maxsize:
            self._kept[key] = frame
        return frame

    async def close(self) -> None:
        """Close the connections."""
        for task in self._fetching.values():
            task.cancel()
        for channel in self._channels.values():
            await channel.close()

    async def _fetch(self, ref: EmbeddingRef, since_ns: int | None) -> Frame:
        with telemetry.tracer().start_as_current_span(
            telemetry.FETCH_EMBEDDING, kind=SpanKind.CLIENT, start_time=since_ns, record_exception=False
        ) as span:
            try:
                specs, data = await self._download(ref)
            except grpc.RpcError as error:
                raised = from_rpc_error(error)
                if isinstance(raised, ModelMismatch):
                    raise raised from error
                raise EmbeddingNotFound("the embedding cannot be fetched", key=ref.key) from error
            span.set_attribute(telemetry.BYTES, len(data))
            # To an accelerator it is a copy, which the event loop must not wait for.
            features = await asyncio.to_thread(_to_features, specs, data, self._device)
        return Frame(features, ref.image_width, ref.image_height)

    async def _download(self, ref: EmbeddingRef) -> tuple[list[TensorSpec], bytearray]:
        stub = encoder_pb2_grpc.EncoderServiceStub(self._channel(ref.address))
        call = stub.Fetch(
            encoder_pb2.FetchRequest(key=ref.key, model_id=ref.model_id, tenant=ref.tenant),
            timeout=FETCH_SECONDS,
        )
        specs: list[TensorSpec] = []
        data, filled = bytearray(), 0
        async for message in call:
            if message.WhichOneof("content") == "header":
                specs = wire.tensor_specs_from_proto(message.header.tensors)
                data = bytearray(sum(spec.num_bytes for spec in specs))
            else:
                data[filled : filled + len(message.chunk)] = message.chunk
                filled += len(message.chunk)
        if not specs or filled != len(data):
            raise EmbeddingNotFound("the embedding came incomplete", key=ref.key)
        return specs, data

    def _channel(self, address: str) -> grpc.aio.Channel:
        if address not in self._channels:
            self._channels[address] = open_channel(address, max_message_bytes=self._max_message_bytes)
        return self._channels[address]


def _to_features(specs: Sequence[TensorSpec], data: bytearray, device: torch.device) -> ImageFeatures:
    """Tensors over the bytes that were fetched, without a copy on the host."""
    tensors, start = {}, 0
    for spec in specs:
        count = int(np.prod(spec.shape))
        flat = torch.frombuffer(data, dtype=_DTYPES[spec.dtype], count=count, offset=start)
        tensors[spec.name] = flat.view(1, *spec.shape).to(device)
        start += spec.num_bytes
    return ImageFeatures(**tensors)


def _num_bytes(frame: Frame) -> int:
    return sum(t.nbytes for t in frame.features)
