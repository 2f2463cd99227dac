"""The connection of a client to its gateway: one channel, and what all calls have in common."""

from typing import Any

import grpc

from maskmesh.rpc.addresses import check_endpoint, is_loopback
from maskmesh.rpc.channel import CLIENT_SILENCE_SECONDS, open_channel
from maskmesh.rpc.client_calls import client_metadata
from maskmesh.rpc.server_interceptor import TRACE_ID_KEY
from maskmesh.rpc.status import translate_rpc_errors
from maskmesh.rpc.stream_call import StreamCall
from maskmesh.types import Tls
from maskmesh.v1 import segmentation_pb2_grpc

# The server has the limit; a message of more than this is no image.
MAX_MESSAGE_BYTES = 2**30


class GatewayConnection:
    """Calls of SegmentationService, with API key and trace context.  Connects on the first call."""

    def __init__(self, endpoint: str, *, timeout: float | None, api_key: str, tls: Tls | None) -> None:
        """``timeout`` is the deadline of unary calls in seconds, None for none.

        Raises ValueError if ``endpoint`` is no gRPC target.
        """
        check_endpoint(endpoint)
        self._headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._channel = open_channel(
            endpoint,
            max_message_bytes=MAX_MESSAGE_BYTES,
            retries=True,
            max_silence=CLIENT_SILENCE_SECONDS,
            uses_proxy=not is_loopback(endpoint),
            tls=tls,
        )
        self._stub = segmentation_pb2_grpc.SegmentationServiceStub(self._channel)
        self._timeout = timeout

    async def call(self, method: str, request: Any) -> Any:
        """The response of a unary method.  Raises MaskmeshError."""
        with translate_rpc_errors():
            return await self._begin(method, request)

    async def traced_call(self, method: str, request: Any) -> tuple[Any, str]:
        """The response of a unary method, and the id of its trace, empty if there is none."""
        with translate_rpc_errors():
            call = self._begin(method, request)
            response = await call
            metadata = dict(await call.trailing_metadata() or ())
        return response, str(metadata.get(TRACE_ID_KEY, ""))

    def stream_responses(self, method: str, request: Any, timeout: float | None) -> Any:
        """A gRPC call that streams responses; ``timeout`` in seconds.  It raises gRPC's errors."""
        return getattr(self._stub, method)(request, timeout=timeout, metadata=client_metadata(self._headers))

    def stream_requests(self, method: str) -> StreamCall:
        """A call that streams requests.  It raises gRPC's errors."""
        return StreamCall(getattr(self._stub, method)(metadata=client_metadata(self._headers)))

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    def _begin(self, method: str, request: Any) -> grpc.aio.UnaryUnaryCall[Any, Any]:
        metadata = client_metadata(self._headers)
        return getattr(self._stub, method)(request, timeout=self._timeout, metadata=metadata)  # type: ignore[no-any-return]
