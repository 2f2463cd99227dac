"""Embeddings of the frames of one Track stream: prefetched, and requested again if evicted."""

import asyncio
import time
from collections.abc import Callable

from maskmesh.errors import UNREACHABLE, EmbeddingNotFound, Unavailable
from maskmesh.types import EmbeddingRef
from tracker_svc.compute.step import Frame
from tracker_svc.embeddings.embedding_store import EmbeddingStore
from tracker_svc.frame_trace import FrameTrace

# Attempts to fetch an embedding before the propagation fails.
MAX_ATTEMPTS = 3


class StreamEmbeddings:
    """Fetches the embeddings of one stream.

    ``request`` sends the caller the index of a frame whose embedding is gone; the caller encodes the frame
    again and sends a reference, which is passed to :meth:`resolve`.
    """

    def __init__(self, store: EmbeddingStore, request: Callable[[int], None]) -> None:
        self._store = store
        self._request = request
        self._requested: dict[int, asyncio.Future[EmbeddingRef]] = {}
        self._is_closed = False

    def check(self, ref: EmbeddingRef) -> None:
        """Raises ModelMismatch if the embedding belongs to another model."""
        self._store.check(ref)

    def prefetch(self, ref: EmbeddingRef, trace: FrameTrace) -> "asyncio.Task[Frame]":
        """Begin to fetch an embedding."""
        task = trace.task(self._store.get(ref, since_ns=time.time_ns()))
        # A failure is raised by :meth:`get`, which may never be called for this frame.
        task.add_done_callback(lambda t: t.cancelled() or t.exception())
        return task

    async def get(self, frame_index: int, prefetch: "asyncio.Task[Frame]", trace: FrameTrace) -> Frame:
        """Returns the embedding of a frame.

        Raises Unavailable if its encoder is unreachable, EmbeddingNotFound if the caller sends no
        reference.
        """
        for attempt in range(MAX_ATTEMPTS):
            try:
                return await prefetch
            except EmbeddingNotFound as error:
                if attempt == MAX_ATTEMPTS - 1 and UNREACHABLE in error.metadata:
                    # Another tracker may reach the encoder, or this tracker may reach it later.
                    unreachable = {UNREACHABLE: error.metadata[UNREACHABLE]}
                    raise Unavailable(
                        "the tracker cannot reach an encoder", service="encoder", **unreachable
                    ) from error
                if attempt == MAX_ATTEMPTS - 1 or self._is_closed:
                    raise
            future: asyncio.Future[EmbeddingRef] = asyncio.get_running_loop().create_future()
            self._requested[frame_index] = future
            self._request(frame_index)
            try:
                prefetch = self.prefetch(await future, trace)
            finally:
                del self._requested[frame_index]
            prefetch.add_done_callback(lambda _: trace.note_ready())
        raise AssertionError("unreachable")

    def resolve(self, frame_index: int, ref: EmbeddingRef) -> None:
        """Complete the request for an embedding with the reference that the caller has sent."""
        future = self._requested.get(frame_index)
        if future is not None and not future.done():
            future.set_result(ref)

    def close(self) -> None:
        """Fail all open requests, because the caller sends no more references."""
        self._is_closed = True
        for frame_index, future in self._requested.items():
            if not future.done():
                future.set_exception(
                    EmbeddingNotFound("the caller did not send the embedding", frame_index=frame_index)
                )
