"""Embeddings from the replica that holds them: by shared memory where both can open it, else by a stream."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import grpc
import numpy as np
import torch
from opentelemetry import trace

from maskmesh import telemetry, wire
from maskmesh.errors import EmbeddingNotFound
from maskmesh.internal.v1 import encoder_pb2
from maskmesh.masks import ByteArray
from maskmesh.rpc.channel import open_channel
from maskmesh.rpc.interceptors import client_span, trace_metadata
from maskmesh.rpc.tls import Tls
from maskmesh.storage.shared_memory import SHARED_MEMORY_FILE, SHARED_MEMORY_PREFIX, Block, SharedView
from maskmesh.types import EmbeddingRef, TensorSpec
from maskmesh.wire import fetch_codec
from tracker_svc.model.tracking_model import ImageFeatures

logger = logging.getLogger(__name__)

_FETCH = f"{encoder_pb2.DESCRIPTOR.services_by_name['EncoderService'].full_name}/Fetch"

# A replica that says nothing for so long has gone.
FETCH_SECONDS = 60.0

_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


class _Answer(NamedTuple):
    """What a replica says to a fetch."""

    specs: Sequence[TensorSpec]
    shared_memory: str
    block: Block | None
    data: ByteArray | None
    """The bytes, where they were streamed."""


class _Replica(NamedTuple):
    """A replica's shared memory; ``view`` None where it cannot be opened here."""

    shared_memory: str
    path: Path | None = None
    view: SharedView | None = None
    specs: Sequence[TensorSpec] = ()
    """Its tensors, once it has said that what is open here is its memory."""

    @property
    def is_gone(self) -> bool:
        """Whether its file was deleted, and only we still hold its memory."""
        return self.path is not None and not self.path.exists()


def _known_answer(ref: EmbeddingRef, replica: _Replica | None) -> _Answer | None:
    """What the replica would say, where its memory is open here and the reference says where to look."""
    if replica is None or not replica.specs or ref.shared is None:
        return None
    if ref.shared.folder != replica.shared_memory:
        return None
    return _Answer(replica.specs, replica.shared_memory, ref.shared.block, None)


class EmbeddingFetcher:
    """Fetches embeddings onto a device.  Used on one event loop only.

    A replica names its shared memory with its first answer.  Whether it can be opened here decides how
    the next ones come: host names and addresses say nothing about that.  Once the replica has confirmed by
    the nonce that it is its own, references say where embeddings are, and nobody is asked.
    """

    def __init__(
        self,
        *,
        device: torch.device,
        max_message_bytes: int,
        shared_memory_dir: Path | None,
        tls: Tls | None = None,
    ) -> None:
        self._device = device
        self._open_channel = partial(
            open_channel, max_message_bytes=max_message_bytes, notices_hangs=True, tls=tls
        )
        self._folder = shared_memory_dir
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._replicas: dict[str, _Replica] = {}

    async def fetch(self, ref: EmbeddingRef) -> ImageFeatures:
        """The tensors of an embedding.

        Raises EmbeddingNotFound where it came incomplete or was overwritten, and grpc.RpcError.
        """
        replica = self._replicas.get(ref.address)
        view = None if replica is None else replica.view
        span = trace.get_current_span()
        span.set_attribute(telemetry.BYTES, ref.num_bytes)
        span.set_attribute(telemetry.SHARED_MEMORY, True)
        if (known := _known_answer(ref, replica)) is not None:
            # Where it was evicted meanwhile, it may be in another place: then the replica is asked after all.
            with contextlib.suppress(EmbeddingNotFound):
                return await asyncio.to_thread(self._to_features, ref, known, view)
        answer = await self._ask(ref, b"" if view is None else view.nonce)
        span.set_attribute(telemetry.SHARED_MEMORY, answer.block is not None)
        if replica is not None and answer.block is not None:
            self._replicas[ref.address] = replica._replace(specs=answer.specs)
        if replica is None or replica.shared_memory != answer.shared_memory:
            self._replicas[ref.address] = await asyncio.to_thread(self._open, answer.shared_memory)
            self._replicas = {a: r for a, r in self._replicas.items() if not r.is_gone}
        if answer.data is not None and self._device.type == "cpu":
            return self._to_features(ref, answer, view)
        # Copies, which the event loop must not wait for.
        return await asyncio.to_thread(self._to_features, ref, answer, view)

    def shares_memory(self, address: str) -> bool:
        """Whether the shared memory of a replica is open here."""
        replica = self._replicas.get(address)
        return replica is not None and replica.view is not None

    async def close(self) -> None:
        """Close the connections."""
        for channel in self._channels.values():
            await channel.close()

    async def _ask(self, ref: EmbeddingRef, nonce: bytes) -> _Answer:
        fetch = self._channel(ref.address).unary_stream(
            f"/{_FETCH}", encoder_pb2.FetchRequest.SerializeToString, fetch_codec.parse
        )
        request = encoder_pb2.FetchRequest(
            key=ref.key, model_id=ref.model_id, tenant=ref.tenant, shared_memory_nonce=nonce
        )
        header = encoder_pb2.FetchHeader()
        data, filled = None, 0
        with client_span(_FETCH):
            async for message in fetch(request, timeout=FETCH_SECONDS, metadata=trace_metadata()):
                if isinstance(message, encoder_pb2.FetchResponse):
                    header = message.header
                    if not header.HasField("shared_block"):
                        data = np.empty(ref.num_bytes, np.uint8)
                elif data is not None:
                    chunk = np.frombuffer(message, np.uint8)
                    if filled + len(chunk) > len(data):
                        break
                    data[filled : filled + len(chunk)] = chunk
                    filled += len(chunk)
        specs = wire.tensor_specs_from_proto(header.tensors)
        is_whole = filled == (0 if data is None else ref.num_bytes)
        if not specs or not is_whole or sum(spec.num_bytes for spec in specs) != ref.num_bytes:
            raise EmbeddingNotFound("the embedding came incomplete", key=ref.key)
        block = None
        if data is None:
            block = wire.shared_block_from_proto(header.shared_block).block
        return _Answer(specs, header.shared_memory, block, data)

    def _open(self, name: str) -> _Replica:
        if not name or self._folder is None or not name.startswith(SHARED_MEMORY_PREFIX) or "/" in name:
            return _Replica(name)
        path = self._folder / name / SHARED_MEMORY_FILE
        try:
            view = SharedView(path)
        except (OSError, ValueError) as error:
            logger.info("embeddings come by gRPC: %s", error)
            return _Replica(name)
        logger.info("embeddings come by shared memory: %s", name)
        return _Replica(name, path, view)

    def _to_features(self, ref: EmbeddingRef, answer: _Answer, view: SharedView | None) -> ImageFeatures:
        data = answer.data
        if answer.block is not None and view is not None:
            data = view.read(answer.block, ref.num_bytes)
        if data is None:
            raise EmbeddingNotFound("the embedding was evicted while it was read", key=ref.key)
        tensors, start = {}, 0
        for spec in answer.specs:
            count = int(np.prod(spec.shape))
            flat = torch.frombuffer(data, dtype=_DTYPES[spec.dtype], count=count, offset=start)
            tensors[spec.name] = flat.view(1, *spec.shape).to(self._device)
            start += spec.num_bytes
        return ImageFeatures(**tensors)

    def _channel(self, address: str) -> grpc.aio.Channel:
        if address not in self._channels:
            self._channels[address] = self._open_channel(address)
        return self._channels[address]
