"""The connection of a client to its gateway: one channel, and what all calls have in common."""

from typing import Any

from maskmesh.rpc.addresses import check_endpoint, is_loopback
from maskmesh.rpc.channel import CLIENT_SILENCE_SECONDS, open_channel
from maskmesh.rpc.client_calls import TimedResponse, TracedStub
from maskmesh.rpc.status import translate_rpc_errors
from maskmesh.rpc.stream_call import StreamCall
from maskmesh.types import Tls
from maskmesh.v1 import segmentation_pb2, segmentation_pb2_grpc

# The server has the limit; a message of more than this is no image.
MAX_MESSAGE_BYTES = 2**30

_SERVICE = segmentation_pb2.DESCRIPTOR.services_by_name["SegmentationService"]


class GatewayConnection:
    """Calls of SegmentationService, with API key and trace context.  Connects on the first call."""

    def __init__(self, endpoint: str, *, timeout: float | None, api_key: str, tls: Tls | None) -> None:
        """``timeout`` is the deadline of unary calls in seconds, None for none.

        Raises ValueError if ``endpoint`` is no gRPC target.
        """
        check_endpoint(endpoint)
        self._channel = open_channel(
            endpoint,
            max_message_bytes=MAX_MESSAGE_BYTES,
            retries=True,
            max_silence=CLIENT_SILENCE_SECONDS,
            uses_proxy=not is_loopback(endpoint),
            tls=tls,
        )
        self._stub = TracedStub(
            _SERVICE,
            segmentation_pb2_grpc.SegmentationServiceStub,
            self._channel,
            endpoint,
            headers={"authorization": f"Bearer {api_key}"} if api_key else {},
            is_edge=True,
        )
        self._timeout = timeout

    async def call(self, method: str, request: Any) -> Any:
        """The response of a unary method.  Raises MaskmeshError."""
        return (await self.timed_call(method, request)).message

    async def timed_call(self, method: str, request: Any) -> TimedResponse:
        """The response of a unary method, and the id of its trace.  Raises MaskmeshError."""
        with translate_rpc_errors():
            return await self._stub.timed_call(method, request, timeout=self._timeout)

    def stream_responses(self, method: str, request: Any, timeout: float | None) -> Any:
        """A gRPC call that streams responses; ``timeout`` in seconds.  It raises gRPC's errors."""
        return self._stub.stream(method, request, timeout=timeout)

    def stream_requests(self, method: str) -> StreamCall:
        """A call that streams requests.  It raises gRPC's errors."""
        return StreamCall(self._stub.stream(method))

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()
