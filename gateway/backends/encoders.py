"""The client of the encoders: encodes images and returns references to their embeddings."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import grpc

from gateway.backends.service_statuses import statuses_of
from gateway.backends.targets import resolve
from maskmesh import telemetry, wire
from maskmesh.aio import RetryWindow, retry
from maskmesh.errors import ResourceExhausted, Unavailable
from maskmesh.internal.v1 import embedding_pb2, encoder_pb2, encoder_pb2_grpc
from maskmesh.rpc.channel import MESH_SILENCE_SECONDS, open_channel
from maskmesh.rpc.client_calls import TimedResponse, TracedStub
from maskmesh.rpc.status import translate_rpc_errors
from maskmesh.status import ServiceStatus
from maskmesh.telemetry import WorkSummary
from maskmesh.types import DEFAULT_TENANT, EmbeddingRef, EncodedImage, Image, ModelInfo, Tls

# The ring hash selects the encoder replica of an image by the value of this header.
KEY_HEADER = "maskmesh-embedding-key"

# How long calls are retried while no replica is reachable, and the pauses between the retries.
RETRY_SECONDS = 20.0
FIRST_PAUSE_SECONDS = 0.05
MAX_PAUSE_SECONDS = 1.0

UNPIN_SECONDS = 5.0

# Hashing an image of this size, or copying it into a message, takes a tenth of a millisecond.
SMALL_BYTES = 2**17

T = TypeVar("T")

# The family of models whose embeddings points are followed with.
POINTS = embedding_pb2.MODEL_FAMILY_POINTS

_SERVICE = encoder_pb2.DESCRIPTOR.services_by_name["EncoderService"]


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """Priority, tenant, pin and deadline of an Encode call.

    If ``owner`` is set, the embedding is pinned for that owner for ``pin_seconds``.  ``timeout`` is in
    seconds; None means no deadline.
    """

    interactive: bool
    tenant: str = DEFAULT_TENANT
    owner: str = ""
    pin_seconds: float = 0.0
    timeout: float | None = None


class Encoded(NamedTuple):
    """A reference to an embedding, and when the reference was received, in nanoseconds since the epoch.

    ``cache_outcome`` is a value of ``maskmesh.cache.outcome``.  ``stage_seconds`` are the durations of the
    stages of this encode, empty on a cache hit; ``work`` is what was done, transfers and waits included.
    """

    ref: EmbeddingRef
    ready_ns: int
    cache_outcome: str
    stage_seconds: Mapping[str, float] = MappingProxyType({})
    work: WorkSummary | None = None


class Encoders(ABC):
    """Encodes images and returns references to their embeddings.  Used on one event loop only."""

    @abstractmethod
    async def encode(self, image: Image, key: str, options: EncodeOptions) -> Encoded:
        """Encode an image, whose bytes are sent only if its embedding is not cached.

        ``key`` is the image's digest.  Raises InvalidImage, ImageTooLarge, ResourceExhausted, Unavailable.
        """

    @abstractmethod
    async def unpin(self, owner: str, tenant: str, address: str, keys: Sequence[str] = ()) -> None:
        """Release pins of an owner in one replica; without ``keys``, all of them."""

    @abstractmethod
    async def model(self) -> ModelInfo:
        """The encoders' model; waits until one is reachable."""

    @abstractmethod
    async def statuses(self, timeout: float) -> list[ServiceStatus]:
        """The state of each replica; one that does not answer in ``timeout`` seconds has an error."""

    @abstractmethod
    async def close(self) -> None:
        """Close the connections."""


class EncoderRing(Encoders):
    """The client of EncoderService on all replicas of one strength.

    gRPC's ring hash sends equal images to one replica, and to the next replica on the ring while that
    replica is unreachable.
    """

    def __init__(
        self,
        target: str,
        *,
        max_message_bytes: int,
        tls: Tls | None = None,
        family: embedding_pb2.ModelFamily = embedding_pb2.MODEL_FAMILY_SEGMENTATION,
    ) -> None:
        """``target`` is a gRPC target: an address, ``ipv4:`` with several, or ``dns:///`` and a name.

        ``family`` selects the model of the replicas.
        """
        self._target = target
        self._family = family
        self._open = partial(open_channel, max_message_bytes=max_message_bytes, tls=tls)
        self._channel = self._open(
            target,
            max_silence=MESH_SILENCE_SECONDS,
            hash_header=KEY_HEADER,
            health_service=_SERVICE.full_name,
        )
        self._ring = self._stub(self._channel, target)
        self._replica_channels: dict[str, grpc.aio.Channel] = {}
        self._replicas: dict[str, TracedStub] = {}

    async def encode(self, image: Image, key: str, options: EncodeOptions) -> Encoded:
        work = WorkSummary()
        encoded = await self.look_up(key, options, work)
        return encoded or await self.compute(image, key, options, work)

    async def look_up(
        self, key: str, options: EncodeOptions, work: WorkSummary, *, retries: bool = True
    ) -> Encoded | None:
        """The embedding if it is cached.  Adds to ``work``.  Raises as :meth:`encode`.

        With ``retries`` false, an encoder that is unreachable or full is an error at once.
        """
        return await self._encode(encoder_pb2.EncodeRequest(key=key), options, work, retries=retries)

    async def compute(
        self, image: Image, key: str, options: EncodeOptions, work: WorkSummary, *, retries: bool = True
    ) -> Encoded:
        """Send the image and return its embedding.  Adds to ``work``.  Raises as :meth:`encode`.

        With ``retries`` false, an encoder that is unreachable or full is an error at once.
        """
        recorder = telemetry.StageRecorder()
        with recorder.stage(telemetry.TRANSFER, {telemetry.DIRECTION: "request"}):
            request = await on_thread_if_large(image, _encode_request, key, image)
        telemetry.emit_soon(recorder.records, None)
        work.add_records(recorder.records)
        encoded = await self._encode(request, options, work, retries=retries)
        assert encoded is not None, "the response to a request with an image has a reference"
        return encoded

    async def unpin(self, owner: str, tenant: str, address: str, keys: Sequence[str] = ()) -> None:
        request = encoder_pb2.UnpinRequest(owner=owner, tenant=tenant, keys=keys)
        with translate_rpc_errors():
            await self._replica(address).call("Unpin", request, timeout=UNPIN_SECONDS)

    async def model(self) -> ModelInfo:
        with translate_rpc_errors():
            request = encoder_pb2.GetModelRequest(family=self._family)
            response = await self._ring.call("GetModel", request, wait_for_ready=True)
        return wire.model_info_from_proto(response.model)

    async def statuses(self, timeout: float) -> list[ServiceStatus]:
        async def status_of(address: str) -> Any:
            request = encoder_pb2.GetEncoderStatusRequest()
            with translate_rpc_errors():
                response = await self._replica(address).call("GetEncoderStatus", request, timeout=timeout)
            return response.status

        try:
            async with asyncio.timeout(timeout):
                addresses = await resolve(self._target)
        except (OSError, TimeoutError) as error:
            reason = f"the name cannot be resolved: {error or 'no answer'}"
            return [ServiceStatus(kind="encoder", address=self._target, error=reason)]
        return await statuses_of("encoder", addresses, status_of)

    async def close(self) -> None:
        for channel in (self._channel, *self._replica_channels.values()):
            await channel.close()

    def _replica(self, address: str) -> TracedStub:
        """The client of one replica."""
        if address not in self._replicas:
            self._replica_channels[address] = self._open(address)
            self._replicas[address] = self._stub(self._replica_channels[address], address)
        return self._replicas[address]

    @staticmethod
    def _stub(channel: grpc.aio.Channel, target: str) -> TracedStub:
        return TracedStub(_SERVICE, encoder_pb2_grpc.EncoderServiceStub, channel, target)

    async def _encode(
        self,
        request: encoder_pb2.EncodeRequest,
        options: EncodeOptions,
        work: WorkSummary,
        *,
        retries: bool = True,
    ) -> Encoded | None:
        """Returns None if the request has no image and the embedding is not cached.  Adds to ``work``."""
        request.priority = (
            encoder_pb2.ENCODE_PRIORITY_INTERACTIVE
            if options.interactive
            else encoder_pb2.ENCODE_PRIORITY_AHEAD
        )
        request.tenant = options.tenant
        request.family = self._family
        if options.owner:
            request.pin.owner = options.owner
            request.pin.ttl.FromNanoseconds(int(options.pin_seconds * 1e9))
        deadline = None if options.timeout is None else time.monotonic() + options.timeout

        async def call() -> TimedResponse:
            remaining = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            headers = {KEY_HEADER: request.key}
            with translate_rpc_errors():
                return await self._ring.timed_call("Encode", request, timeout=remaining, headers=headers)

        # gRPC's own retries do not cover messages as large as an image.
        window = RetryWindow(RETRY_SECONDS, first_pause=FIRST_PAUSE_SECONDS, max_pause=MAX_PAUSE_SECONDS)
        is_retried = partial(_is_retried, interactive=options.interactive)
        response = await (retry(call, window, is_retried) if retries else call())
        message = response.message
        work.add_records(response.transfers).add(wire.work_from_proto(message.work))
        if not message.HasField("ref"):
            return None
        return Encoded(
            replace(wire.embedding_ref_from_proto(message.ref), filled_by=message.filled_by),
            response.received_ns,
            _outcome(message.cache_outcome),
            wire.stage_seconds_from_proto(message.stage_times),
            work,
        )


async def on_thread_if_large(image: Image, work: Callable[..., T], *arguments: Any) -> T:
    """Run work whose duration grows with the image, on a thread if the image exceeds ``SMALL_BYTES``."""
    data = image.data if isinstance(image, EncodedImage) else image.pixels.data
    if memoryview(data).nbytes <= SMALL_BYTES:
        return work(*arguments)
    return await asyncio.to_thread(work, *arguments)


def _is_retried(error: Exception, *, interactive: bool) -> bool:
    """Frames read ahead are retried while the encoder's queue is full; an interactive request fails at
    once.
    """
    if isinstance(error, ResourceExhausted):
        return error.passes and not interactive
    return isinstance(error, Unavailable)


def _outcome(value: encoder_pb2.CacheOutcome) -> str:
    """The name of an outcome for spans: "hit", "miss" and so on."""
    name: str = encoder_pb2.CacheOutcome.Name(value)
    return name.removeprefix("CACHE_OUTCOME_").lower()


def _encode_request(key: str, image: Image) -> encoder_pb2.EncodeRequest:
    request = encoder_pb2.EncodeRequest(key=key)
    wire.fill_image(request.image, image)
    return request
