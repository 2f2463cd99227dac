"""Requests of a live stream that come by unary calls instead of a request stream."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from maskmesh.errors import InvalidRequest, Unavailable
from maskmesh.v1 import segmentation_pb2


class PushedRequests:
    """An asynchronous iterator over messages that other calls push; it ends with the stream only."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[segmentation_pb2.SegmentStreamRequest] = asyncio.Queue(1)
        self._ended = asyncio.Event()
        self._is_finished = False

    async def push(self, messages: Sequence[segmentation_pb2.SegmentStreamRequest]) -> None:
        """Pass messages to the stream; returns when it has room for all.

        A finish message may be repeated.  Raises Unavailable if the stream ends, InvalidRequest for other
        messages after the finish message.
        """
        ending = asyncio.ensure_future(self._ended.wait())
        try:
            for index, message in enumerate(messages):
                is_finish = message.WhichOneof("content") == "finish"
                if self._is_finished:
                    if is_finish:
                        continue
                    raise InvalidRequest(
                        "nothing may follow the finish message", field=f"messages[{index}].content"
                    )
                self._is_finished = is_finish
                putting = asyncio.ensure_future(self._messages.put(message))
                try:
                    await asyncio.wait({putting, ending}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    putting.cancel()
                if self._ended.is_set():
                    raise Unavailable("the stream has ended", service="gateway")
        finally:
            ending.cancel()

    def end(self) -> None:
        """The stream has ended: nothing more is taken."""
        self._ended.set()

    async def __aiter__(self) -> AsyncIterator[segmentation_pb2.SegmentStreamRequest]:
        while True:
            yield await self._messages.get()
