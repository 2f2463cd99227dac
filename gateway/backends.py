"""The two services behind the gateway, as it sees them: values in, values out, their errors raised."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import grpc
from google.protobuf.duration_pb2 import Duration

from maskmesh import embedding_wire, telemetry, wire
from maskmesh.errors import raising_ours
from maskmesh.interceptors import timed_call, trace_metadata, traced_call
from maskmesh.internal.v1 import encoder_pb2, encoder_pb2_grpc, tracker_pb2, tracker_pb2_grpc
from maskmesh.streams import StreamCall
from maskmesh.types import EmbeddingRef, Image, ModelInfo
from maskmesh.v1 import types_pb2


@dataclass(frozen=True, slots=True)
class Urgency:
    """How a call to the encoder is made: before others, kept for whom, and by when."""

    interactive: bool
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


class EncoderBackend:
    """EncoderService."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = encoder_pb2_grpc.EncoderServiceStub(channel)

    async def encode(self, image: Image, key: str, urgency: Urgency) -> Encoded:
        """The embedding of an image, whose bytes are sent only where the encoder does not have it."""
        found = await self._call(encoder_pb2.EncodeRequest(key=key), urgency)
        if found is not None:
            return found
        recorder = telemetry.StageRecorder()
        with recorder.stage(telemetry.TRANSFER, direction="request"):
            # Pixels are copied twice on their way into a message: not on the event loop.
            request = await asyncio.to_thread(_encode_request, key, image)
        telemetry.emit(recorder.records, None)
        encoded = await self._call(request, urgency)
        assert encoded is not None, "an encoder that has the image has its embedding"
        return encoded

    async def unpin(self, owner: str, keys: list[str]) -> None:
        """Release pins; without keys, all of the owner's."""
        with raising_ours():
            await traced_call(
                self._stub, "Unpin", encoder_pb2.UnpinRequest(owner=owner, keys=keys), timeout=5.0
            )

    async def model(self) -> ModelInfo:
        """The model that the service runs; waits until the service is there."""
        with raising_ours():
            answer = await traced_call(
                self._stub, "GetModel", encoder_pb2.GetModelRequest(), wait_for_ready=True
            )
        return wire.model_info_from_proto(answer.model)

    async def _call(self, request: encoder_pb2.EncodeRequest, urgency: Urgency) -> Encoded | None:
        request.priority = (
            encoder_pb2.ENCODE_PRIORITY_INTERACTIVE
            if urgency.interactive
            else encoder_pb2.ENCODE_PRIORITY_AHEAD
        )
        if urgency.owner:
            request.pin.owner = urgency.owner
            request.pin.ttl.FromNanoseconds(int(urgency.pin_seconds * 1e9))
        with raising_ours():
            answer = await timed_call(self._stub, "Encode", request, timeout=urgency.timeout)
        if not answer.message.HasField("ref"):
            return None
        message = answer.message
        return Encoded(
            embedding_wire.ref_from_proto(message.ref),
            answer.received_ns,
            wire.stage_seconds_from_proto(message.stage_times),
        )


def _encode_request(key: str, image: Image) -> encoder_pb2.EncodeRequest:
    request = encoder_pb2.EncodeRequest(key=key)
    wire.fill_image(request.image, image)
    return request


class TrackerBackend:
    """TrackerService."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = tracker_pb2_grpc.TrackerServiceStub(channel)

    async def segment_image(
        self, request: tracker_pb2.SegmentImageRequest, timeout: float | None
    ) -> list[types_pb2.ObjectMask]:
        """Masks on one image, in the order of the prompts."""
        return list((await self._call("SegmentImage", request, timeout)).masks)

    async def create_session(self, session_id: str, ttl_seconds: float, *, live: bool = False) -> float:
        """Begin a session; returns the seconds of its lease."""
        ttl = Duration()
        ttl.FromNanoseconds(int(ttl_seconds * 1e9))
        request = tracker_pb2.CreateSessionRequest(session_id=session_id, ttl=ttl, live=live)
        response = await self._call("CreateSession", request)
        return float(response.ttl.ToNanoseconds() / 1e9)

    async def get_session(self, session_id: str, timeout: float | None) -> tracker_pb2.GetSessionResponse:
        """Objects and history of a session."""
        request = tracker_pb2.GetSessionRequest(session_id=session_id)
        response: tracker_pb2.GetSessionResponse = await self._call("GetSession", request, timeout)
        return response

    async def add_prompt(
        self, request: tracker_pb2.AddPromptRequest, timeout: float | None
    ) -> tracker_pb2.AddPromptResponse:
        """Prompt one object on one frame."""
        response: tracker_pb2.AddPromptResponse = await self._call("AddPrompt", request, timeout)
        return response

    async def clear_prompts(
        self, request: tracker_pb2.ClearPromptsRequest, timeout: float | None
    ) -> tracker_pb2.ClearPromptsResponse:
        """Forget what was said of one object on one frame."""
        response: tracker_pb2.ClearPromptsResponse = await self._call("ClearPrompts", request, timeout)
        return response

    def track(self, timeout: float | None) -> StreamCall:
        """Open a stream; its errors are gRPC's own."""
        return StreamCall(self._stub.Track(timeout=timeout, metadata=trace_metadata()))

    async def remove_object(
        self, request: tracker_pb2.RemoveObjectRequest, timeout: float | None
    ) -> tracker_pb2.RemoveObjectResponse:
        """Forget one object."""
        response: tracker_pb2.RemoveObjectResponse = await self._call("RemoveObject", request, timeout)
        return response

    async def reset_session(
        self, request: tracker_pb2.ResetSessionRequest, timeout: float | None
    ) -> tracker_pb2.ResetSessionResponse:
        """Forget all objects."""
        response: tracker_pb2.ResetSessionResponse = await self._call("ResetSession", request, timeout)
        return response

    async def renew_session(self, session_id: str) -> None:
        """Renew the lease."""
        await self._call("RenewSession", tracker_pb2.RenewSessionRequest(session_id=session_id))

    async def delete_session(self, session_id: str) -> None:
        """End a session."""
        await self._call("DeleteSession", tracker_pb2.DeleteSessionRequest(session_id=session_id))

    async def model(self) -> ModelInfo:
        """The model that the service runs; waits until the service is there."""
        with raising_ours():
            answer = await traced_call(
                self._stub, "GetTrackerModel", tracker_pb2.GetTrackerModelRequest(), wait_for_ready=True
            )
        return wire.model_info_from_proto(answer.model)

    async def _call(self, method: str, request: Any, timeout: float | None = None) -> Any:
        with raising_ours():
            return await traced_call(self._stub, method, request, timeout=timeout)
