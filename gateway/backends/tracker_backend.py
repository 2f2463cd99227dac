"""The two services behind the gateway, as it sees them: values in, values out, their errors raised."""

from collections.abc import AsyncIterator
from typing import Any, NamedTuple, TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration

from maskmesh import wire
from maskmesh.errors import translate_rpc_errors
from maskmesh.internal.v1 import tracker_pb2, tracker_pb2_grpc
from maskmesh.rpc.interceptors import trace_metadata, traced_call
from maskmesh.rpc.stream_call import StreamCall
from maskmesh.types import ModelInfo
from maskmesh.v1 import types_pb2

R = TypeVar("R", bound=Any)

# What nobody waits for must not wait for long either.
DELETE_SECONDS = 5.0

# A session of a few objects is some megabytes, one with a long past some hundred.
HAND_OVER_SECONDS = 30.0


def at_epoch(request: R, epoch: int) -> R:
    """A request to a tracker with the epoch of the session's owner; it may be made again with another one."""
    request.epoch = epoch
    return request


class Load(NamedTuple):
    """How much a tracker has to do."""

    sessions: int
    propagating: int
    max_sessions: int
    draining: bool


class TrackerBackend:
    """TrackerService of one tracker.  ``epoch`` is that of the session's owner, as the caller knows it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = tracker_pb2_grpc.TrackerServiceStub(channel)

    async def segment_image(
        self, request: tracker_pb2.SegmentImageRequest, timeout: float | None
    ) -> list[types_pb2.ObjectMask]:
        """Masks on one image, in the order of the prompts."""
        return list((await self._call("SegmentImage", request, timeout)).masks)

    async def create_session(
        self, session_id: str, ttl_seconds: float, *, live: bool = False, epoch: int = 0
    ) -> float:
        """Begin a session; returns the seconds of its lease."""
        ttl = Duration()
        ttl.FromNanoseconds(int(ttl_seconds * 1e9))
        request = tracker_pb2.CreateSessionRequest(session_id=session_id, ttl=ttl, live=live, epoch=epoch)
        response = await self._call("CreateSession", request)
        return float(response.ttl.ToNanoseconds() / 1e9)

    async def get_session(
        self, session_id: str, epoch: int, timeout: float | None
    ) -> tracker_pb2.GetSessionResponse:
        """Objects and history of a session."""
        request = tracker_pb2.GetSessionRequest(session_id=session_id, epoch=epoch)
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

    async def renew_session(self, session_id: str, epoch: int) -> None:
        """Renew the lease."""
        await self._call("RenewSession", tracker_pb2.RenewSessionRequest(session_id=session_id, epoch=epoch))

    async def delete_session(self, session_id: str, epoch: int) -> None:
        """End a session."""
        request = tracker_pb2.DeleteSessionRequest(session_id=session_id, epoch=epoch)
        await self._call("DeleteSession", request, DELETE_SECONDS)

    async def export_session(
        self, session_id: str, epoch: int
    ) -> AsyncIterator[tracker_pb2.ExportSessionResponse]:
        """All that a session is, in parts."""
        request = tracker_pb2.ExportSessionRequest(session_id=session_id, epoch=epoch)
        with translate_rpc_errors():
            export = self._stub.ExportSession(request, timeout=HAND_OVER_SECONDS, metadata=trace_metadata())
            async for part in export:
                yield part

    async def import_session(
        self, parts: AsyncIterator[tracker_pb2.ExportSessionResponse], epoch: int
    ) -> None:
        """Begin a session as another one was."""
        call = StreamCall(self._stub.ImportSession(timeout=HAND_OVER_SECONDS, metadata=trace_metadata()))
        try:
            with translate_rpc_errors():
                async for part in parts:
                    if part.WhichOneof("content") == "session":
                        config = tracker_pb2.ImportConfig(session=part.session, epoch=epoch)
                        await call.write(tracker_pb2.ImportSessionRequest(config=config))
                    else:
                        await call.write(tracker_pb2.ImportSessionRequest(state=part.state))
                finish = tracker_pb2.ImportSessionFinish()
                await call.write(tracker_pb2.ImportSessionRequest(finish=finish))
                await call.done_writing()
                await call.answer()
        finally:
            call.cancel()

    async def load(self, timeout: float) -> Load:
        """How much there is to do."""
        answer = await self._call("GetLoad", tracker_pb2.GetLoadRequest(), timeout)
        return Load(answer.sessions, answer.propagating, answer.max_sessions, answer.draining)

    async def model(self, timeout: float) -> ModelInfo:
        """The model that the service runs; waits for the service to be there."""
        with translate_rpc_errors():
            answer = await traced_call(
                self._stub,
                "GetTrackerModel",
                tracker_pb2.GetTrackerModelRequest(),
                wait_for_ready=True,
                timeout=timeout,
            )
        return wire.model_info_from_proto(answer.model)

    async def _call(self, method: str, request: Any, timeout: float | None = None) -> Any:
        with translate_rpc_errors():
            return await traced_call(self._stub, method, request, timeout=timeout)
