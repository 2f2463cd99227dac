"""The client of one tracker."""

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import grpc

from maskmesh import wire
from maskmesh.internal.v1 import points_pb2, points_pb2_grpc, tracker_pb2, tracker_pb2_grpc
from maskmesh.rpc.client_calls import TimedResponse, TracedStub
from maskmesh.rpc.status import translate_rpc_errors
from maskmesh.rpc.stream_call import StreamCall
from maskmesh.types import ModelInfo

# A session with few objects has some megabytes, a session with a long history some hundred megabytes.
HAND_OVER_SECONDS = 30.0

_SERVICE = tracker_pb2.DESCRIPTOR.services_by_name["TrackerService"]
_POINT_SERVICE = points_pb2.DESCRIPTOR.services_by_name["PointService"]


class Load(NamedTuple):
    """The load of a tracker."""

    sessions: int
    propagating: int
    max_sessions: int
    draining: bool
    points: int


class TrackerBackend:
    """The client of TrackerService on one tracker.  Methods raise the errors of :mod:`maskmesh.errors`."""

    def __init__(self, channel: grpc.aio.Channel, address: str) -> None:
        self.address = address
        self._stub = TracedStub(_SERVICE, tracker_pb2_grpc.TrackerServiceStub, channel, address)
        self._points = TracedStub(_POINT_SERVICE, points_pb2_grpc.PointServiceStub, channel, address)

    async def call(self, method: str, request: Any, timeout: float | None = None) -> Any:
        """The response of a unary method, for example ``AddPrompt``; ``timeout`` in seconds."""
        with translate_rpc_errors():
            return await self._stub_of(method).call(method, request, timeout=timeout)

    async def timed_call(self, method: str, request: Any, timeout: float | None = None) -> TimedResponse:
        """The response of a unary method, and its transfers."""
        with translate_rpc_errors():
            return await self._stub_of(method).timed_call(method, request, timeout=timeout)

    def _stub_of(self, method: str) -> TracedStub:
        return self._points if method in _POINT_SERVICE.methods_by_name else self._stub

    def track(self, timeout: float | None) -> StreamCall:
        """Open a Track stream; the methods of the stream raise gRPC errors."""
        return StreamCall(self._stub.stream("Track", timeout=timeout))

    def track_points(self, timeout: float | None) -> StreamCall:
        """Open a TrackPoints stream; the methods of the stream raise gRPC errors."""
        return StreamCall(self._points.stream("TrackPoints", timeout=timeout))

    async def export_session(
        self, session_id: str, epoch: int
    ) -> AsyncIterator[tracker_pb2.ExportSessionResponse]:
        """Yield the parts of a session."""
        request = tracker_pb2.ExportSessionRequest(session_id=session_id, epoch=epoch)
        with translate_rpc_errors():
            export = self._stub.stream("ExportSession", request, timeout=HAND_OVER_SECONDS)
            async for part in export:
                yield part

    async def import_session(
        self, parts: AsyncIterator[tracker_pb2.ExportSessionResponse], epoch: int
    ) -> None:
        """Create a session from the parts that another tracker exported."""
        call = StreamCall(self._stub.stream("ImportSession", timeout=HAND_OVER_SECONDS))
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
        """The tracker's load."""
        response = await self.call("GetLoad", tracker_pb2.GetLoadRequest(), timeout)
        return Load(
            response.sessions,
            response.propagating,
            response.max_sessions,
            response.draining,
            response.points,
        )

    async def model(self, timeout: float) -> ModelInfo:
        """The tracker's model; waits up to ``timeout`` seconds for the connection."""
        with translate_rpc_errors():
            response = await self._stub.call(
                "GetTrackerModel", tracker_pb2.GetTrackerModelRequest(), wait_for_ready=True, timeout=timeout
            )
        return wire.model_info_from_proto(response.model)
