"""Fetches embeddings from encoders: through shared memory if the tracker can open it, else through a gRPC
stream.
"""

import asyncio
import contextlib
import logging
import time
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
from maskmesh.nn.image_features import ImageEmbedding, embedding_from_tensors
from maskmesh.rpc.channel import MESH_SILENCE_SECONDS, open_channel
from maskmesh.rpc.client_calls import call_metadata, client_span, server_attributes, transfers_of
from maskmesh.storage.shared_memory import SHARED_MEMORY_FILE, SHARED_MEMORY_PREFIX, SharedView
from maskmesh.types import Block, EmbeddingRef, TensorSpec, Tls
from maskmesh.wire import fetch_codec

logger = logging.getLogger(__name__)

_FETCH = f"{encoder_pb2.DESCRIPTOR.services_by_name['EncoderService'].full_name}/Fetch"

# A fetch that takes longer than this has failed.
FETCH_SECONDS = 60.0

_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


class _Fetched(NamedTuple):
    """The response of an encoder: tensors in its shared memory, or their bytes."""

    specs: Sequence[TensorSpec]
    shared_memory: str
    block: Block | None
    data: ByteArray | None
    """The bytes, None for tensors in shared memory."""


class _Replica(NamedTuple):
    """The shared memory of an encoder replica; ``view`` is None if this tracker cannot open it."""

    shared_memory: str
    path: Path | None = None
    view: SharedView | None = None
    specs: Sequence[TensorSpec] = ()
    """The tensors of an embedding; set once the replica has confirmed that it owns the opened memory."""

    @property
    def is_gone(self) -> bool:
        """Whether its file was deleted, so that only this tracker keeps the memory."""
        return self.path is not None and not self.path.exists()


def _locate(ref: EmbeddingRef, replica: _Replica | None) -> _Fetched | None:
    """The location in shared memory, if the memory is open and confirmed and the reference has the block."""
    if replica is None or not replica.specs or ref.shared is None:
        return None
    if ref.shared.folder != replica.shared_memory:
        return None
    return _Fetched(replica.specs, replica.shared_memory, ref.shared.block, None)


class EmbeddingFetcher:
    """Fetches embeddings onto a device.  Used on one event loop only.

    The first response of a replica contains the name of its shared memory.  The tracker tries to open the
    memory, because host names and addresses do not determine whether two processes share memory, and sends
    the nonce in the memory with the next request.  Once the replica has confirmed the nonce, the tracker
    reads embeddings from the blocks in their references, without a call.
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
            open_channel, max_message_bytes=max_message_bytes, max_silence=MESH_SILENCE_SECONDS, tls=tls
        )
        self._folder = shared_memory_dir
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._replicas: dict[str, _Replica] = {}

    async def fetch(self, ref: EmbeddingRef) -> ImageEmbedding:
        """The tensors of an embedding.

        Raises EmbeddingNotFound if it is incomplete or was overwritten, and grpc.RpcError.
        """
        replica = self._replicas.get(ref.address)
        view = None if replica is None else replica.view
        span = trace.get_current_span()
        span.set_attribute(telemetry.BYTES, ref.num_bytes)
        span.set_attribute(telemetry.SHARED_MEMORY, True)
        if (located := _locate(ref, replica)) is not None:
            # If the block was evicted meanwhile, the replica may have the embedding in another one.
            with contextlib.suppress(EmbeddingNotFound):
                return await asyncio.to_thread(self._to_features, ref, located, view)
        fetched = await self._call_fetch(ref, b"" if view is None else view.nonce)
        span.set_attribute(telemetry.SHARED_MEMORY, fetched.block is not None)
        if replica is not None and fetched.block is not None:
            self._replicas[ref.address] = replica._replace(specs=fetched.specs)
        if replica is None or replica.shared_memory != fetched.shared_memory:
            self._replicas[ref.address] = await asyncio.to_thread(self._open, fetched.shared_memory)
            self._replicas = {a: r for a, r in self._replicas.items() if not r.is_gone}
        if fetched.data is not None and self._device.type == "cpu":
            return self._to_features(ref, fetched, view)
        # On a thread, because the tensors are copied.
        return await asyncio.to_thread(self._to_features, ref, fetched, view)

    def shares_memory(self, address: str) -> bool:
        """Whether this tracker has opened the shared memory of a replica."""
        replica = self._replicas.get(address)
        return replica is not None and replica.view is not None

    async def close(self) -> None:
        """Close the connections."""
        for channel in self._channels.values():
            await channel.close()

    async def _call_fetch(self, ref: EmbeddingRef, nonce: bytes) -> _Fetched:
        fetch = self._channel(ref.address).unary_stream(
            f"/{_FETCH}", encoder_pb2.FetchRequest.SerializeToString, fetch_codec.parse
        )
        request = encoder_pb2.FetchRequest(
            key=ref.key, model_id=ref.model_id, tenant=ref.tenant, shared_memory_nonce=nonce
        )
        header = encoder_pb2.FetchHeader()
        data, filled = None, 0
        with client_span(_FETCH, server_attributes(ref.address)) as span:
            start_ns = time.time_ns()
            call = fetch(request, timeout=FETCH_SECONDS, metadata=call_metadata())
            async for message in call:
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
            end_ns = time.time_ns()
            if call.done():
                trailing = dict(await call.trailing_metadata() or ())
                telemetry.emit(transfers_of(trailing, start_ns, end_ns), span.context)
                span.end_ns = end_ns
        specs = wire.tensor_specs_from_proto(header.tensors)
        is_whole = filled == (0 if data is None else ref.num_bytes)
        if not specs or not is_whole or sum(spec.num_bytes for spec in specs) != ref.num_bytes:
            raise EmbeddingNotFound("the embedding is incomplete", key=ref.key)
        block = None
        if data is None:
            block = wire.shared_block_from_proto(header.shared_block).block
        return _Fetched(specs, header.shared_memory, block, data)

    def _open(self, name: str) -> _Replica:
        if not name or self._folder is None or not name.startswith(SHARED_MEMORY_PREFIX) or "/" in name:
            return _Replica(name)
        path = self._folder / name / SHARED_MEMORY_FILE
        try:
            view = SharedView(path)
        except (OSError, ValueError) as error:
            logger.info("embeddings are fetched through gRPC: %s", error)
            return _Replica(name)
        logger.info("embeddings are read from shared memory: %s", name)
        return _Replica(name, path, view)

    def _to_features(self, ref: EmbeddingRef, fetched: _Fetched, view: SharedView | None) -> ImageEmbedding:
        data = fetched.data
        if fetched.block is not None and view is not None:
            data = view.read(fetched.block, ref.num_bytes)
        if data is None:
            raise EmbeddingNotFound("the embedding was evicted while it was read", key=ref.key)
        tensors, start = {}, 0
        for spec in fetched.specs:
            count = int(np.prod(spec.shape))
            flat = torch.frombuffer(data, dtype=_DTYPES[spec.dtype], count=count, offset=start)
            tensors[spec.name] = flat.view(1, *spec.shape).to(self._device)
            start += spec.num_bytes
        return embedding_from_tensors(tensors)

    def _channel(self, address: str) -> grpc.aio.Channel:
        if address not in self._channels:
            self._channels[address] = self._open_channel(address)
        return self._channels[address]
