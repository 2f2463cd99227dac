"""Calls of trackers about one image that belongs to no session."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from gateway.api_keys import current_caller
from gateway.backends.encoders import EncodeOptions, Encoders
from gateway.backends.image_encoding import MAX_ATTEMPTS, encode_image, raise_after_last
from gateway.backends.trackers import Trackers
from gateway.sessions.click_trace import ClickTrace
from maskmesh import telemetry, wire
from maskmesh.errors import EmbeddingNotFound
from maskmesh.internal.v1 import tracker_pb2
from maskmesh.rpc.client_calls import TimedResponse
from maskmesh.types import EmbeddingRef, Image

ImageRequest: TypeAlias = (
    tracker_pb2.SegmentImageRequest | tracker_pb2.SegmentConceptsRequest | tracker_pb2.SegmentGridRequest
)


class ImageResponse(NamedTuple):
    """A tracker's response, and the embedding of the image."""

    ref: EmbeddingRef
    response: TimedResponse


class ImageCalls:
    """Encodes an image and calls any tracker about it."""

    def __init__(self, encoders: Encoders, trackers: Trackers) -> None:
        self._encoders = encoders
        self._trackers = trackers

    async def call(
        self,
        method: str,
        message: ImageRequest,
        image: Image,
        click: ClickTrace,
        *,
        check: Callable[[EmbeddingRef], None],
        timeout: float | None,
        interactive: bool = True,
    ) -> ImageResponse:
        """Encode an image and call ``method`` with its embedding, again if the embedding is evicted.

        ``check`` checks the request against the size of the image; what it raises is raised.  A call that is
        not interactive waits for its turn behind those that are, and for the rate of its key.
        """
        caller = current_caller()
        if interactive:
            await caller.count_interactive_frame()
        else:
            await caller.wait_for_stream_frame()
        options = EncodeOptions(interactive=interactive, tenant=caller.tenant, timeout=timeout)
        click.did(telemetry.PREPARE)
        for attempt in range(MAX_ATTEMPTS):
            encoded = await encode_image(self._encoders, image, options)
            click.encoded(encoded)
            click.mark(encoded.ready_ns)
            check(encoded.ref)
            message.embedding.CopyFrom(wire.embedding_ref_to_proto(encoded.ref))
            click.did(telemetry.PREPARE)
            try:
                response = await self._trackers.call_any(method, message, timeout)
                break
            except EmbeddingNotFound as error:
                raise_after_last(attempt, error)
        click.mark(response.received_ns)
        click.work.add_records(response.transfers).add(wire.work_from_proto(response.message.work))
        return ImageResponse(encoded.ref, response)
