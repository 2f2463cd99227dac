"""The encoders behind a gateway, as it sees them: images in, references to embeddings out."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import grpc
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_exponential_jitter

from maskmesh import telemetry, wire
from maskmesh.errors import ResourceExhausted, Unavailable, translate_rpc_errors
from maskmesh.internal.v1 import encoder_pb2, encoder_pb2_grpc
from maskmesh.rpc.channel import open_channel
from maskmesh.rpc.interceptors import timed_call, traced_call
from maskmesh.rpc.tls import Tls
from maskmesh.types import DEFAULT_TENANT, EmbeddingRef, EncodedImage, Image, ModelInfo

# By this the ring hash finds the replica that has an image.
KEY_HEADER = "maskmesh-embedding-key"

# Replicas come and go; while all are out of reach at once, calls wait for so long.
PATIENCE_SECONDS = 20.0
UNPIN_SECONDS = 5.0

# What is digested, or put into a message, in a tenth of a millisecond.
SMALL_BYTES = 2**17

T = TypeVar("T")

_SERVICE = encoder_pb2.DESCRIPTOR.services_by_name["EncoderService"].full_name


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """How a call to the encoder is made: before others, kept for whom, and by when."""

    interactive: bool
    tenant: str = DEFAULT_TENANT
    owner: str = ""
    pin_seconds: float = 0.0
    timeout: float | None = None


class Encoded(NamedTuple):
    """Where an embedding is, and when that was known: nanoseconds since the epoch.

    ``stage_seconds`` are the stages that worked for it now, none where it was there.
    """

    ref: EmbeddingRef
    ready_ns: int
    stage_seconds: Mapping[str, float] = MappingProxyType({})


class Encoders:
    """EncoderService of all replicas.  Used on one event loop only.

    Equal images go to the same replica by gRPC's own ring hash; to another one while that is out of reach.
    """

    def __init__(self, target: str, *, max_message_bytes: int, tls: Tls | None = None) -> None:
        """``target`` as gRPC has it: an address, ``ipv4:`` and several, or ``dns:///`` and a name."""
        self._open = partial(open_channel, max_message_bytes=max_message_bytes, tls=tls)
        self._channel = self._open(
            target,
            notices_hangs=True,
            hash_by=KEY_HEADER,
            serves=_SERVICE,
        )
        self._stub = encoder_pb2_grpc.EncoderServiceStub(self._channel)
        self._replicas: dict[str, grpc.aio.Channel] = {}
        self._replica_stubs: dict[str, Any] = {}

    async def encode(self, image: Image, key: str, encode_options: EncodeOptions) -> Encoded:
        """The embedding of an image, whose bytes are sent only where the encoder does not have it."""
        found = await self._call(encoder_pb2.EncodeRequest(key=key), encode_options)
        if found is not None:
            return found
        recorder = telemetry.StageRecorder()
        with recorder.stage(telemetry.TRANSFER, direction="request"):
            request = await on_thread_if_large(image, _encode_request, key, image)
        telemetry.emit(recorder.records, None)
        encoded = await self._call(request, encode_options)
        assert encoded is not None, "an encoder that has the image has its embedding"
        return encoded

    async def unpin(self, owner: str, tenant: str, address: str, keys: Sequence[str] = ()) -> None:
        """Release pins in one replica; without keys, all of the owner's."""
        if address not in self._replicas:
            self._replicas[address] = self._open(address)
            self._replica_stubs[address] = encoder_pb2_grpc.EncoderServiceStub(self._replicas[address])
        request = encoder_pb2.UnpinRequest(owner=owner, tenant=tenant, keys=keys)
        with translate_rpc_errors():
            await traced_call(self._replica_stubs[address], "Unpin", request, timeout=UNPIN_SECONDS)

    async def model(self) -> ModelInfo:
        """The model that the service runs; waits until the service is there."""
        with translate_rpc_errors():
            answer = await traced_call(
                self._stub, "GetModel", encoder_pb2.GetModelRequest(), wait_for_ready=True
            )
        return wire.model_info_from_proto(answer.model)

    async def close(self) -> None:
        """Close the connections."""
        for channel in (self._channel, *self._replicas.values()):
            await channel.close()

    async def _call(self, request: encoder_pb2.EncodeRequest, encode_options: EncodeOptions) -> Encoded | None:
        request.priority = (
            encoder_pb2.ENCODE_PRIORITY_INTERACTIVE
            if encode_options.interactive
            else encoder_pb2.ENCODE_PRIORITY_AHEAD
        )
        request.tenant = encode_options.tenant
        if encode_options.owner:
            request.pin.owner = encode_options.owner
            request.pin.ttl.FromNanoseconds(int(encode_options.pin_seconds * 1e9))
        deadline = None if encode_options.timeout is None else time.monotonic() + encode_options.timeout
        # Not by gRPC itself, which makes no call again whose message is large.
        async for attempt in AsyncRetrying(
            retry=retry_if_exception(partial(_is_tried_again, interactive=encode_options.interactive)),
            stop=stop_after_delay(PATIENCE_SECONDS),
            wait=wait_exponential_jitter(multiplier=0.05, max=1.0, jitter=0.1),
            reraise=True,
        ):
            with attempt, translate_rpc_errors():
                left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
                headers = {KEY_HEADER: request.key}
                answer = await timed_call(self._stub, "Encode", request, timeout=left, headers=headers)
        if not answer.message.HasField("ref"):
            return None
        message = answer.message
        return Encoded(
            wire.embedding_ref_from_proto(message.ref),
            answer.received_ns,
            wire.stage_seconds_from_proto(message.stage_times),
        )


async def on_thread_if_large(image: Image, work: Callable[..., T], *arguments: Any) -> T:
    """Do what takes longer for a larger image; on a thread where the image is larger than ``SMALL_BYTES``."""
    data = image.data if isinstance(image, EncodedImage) else image.pixels.data
    if memoryview(data).nbytes <= SMALL_BYTES:
        return work(*arguments)
    return await asyncio.to_thread(work, *arguments)


def _is_tried_again(error: BaseException, *, interactive: bool) -> bool:
    """A stream that was let in waits for room; who asks for one frame is told that there is none."""
    if isinstance(error, ResourceExhausted):
        return error.passes and not interactive
    return isinstance(error, Unavailable)


def _encode_request(key: str, image: Image) -> encoder_pb2.EncodeRequest:
    request = encoder_pb2.EncodeRequest(key=key)
    wire.fill_image(request.image, image)
    return request
