"""One session of the gateway: its frames, the embeddings of its frames, and its lease."""

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import grpc
from opentelemetry.trace import SpanContext

from gateway.api_keys import Caller
from gateway.frames.frame_replication import FrameReplicator
from gateway.frames.frames import FrameReader, Frames
from maskmesh.errors import MaskmeshError, SessionBusy, SessionNotFound
from maskmesh.leases import Lease
from maskmesh.rpc.idempotency import IdempotencyCache
from maskmesh.storage.session_record import Owner
from maskmesh.types import EmbeddingRef, Image

# Maximum number of references in a session; for older frames, the embedding is requested from the encoder
# again.
MAX_REFS = 10_000

# How long a new stream waits for the previous stream: while that is open, because its client may just have
# disconnected, and while it is closing, because its last step takes time.
OPEN_STREAM_SECONDS = 0.5
ENDING_STREAM_SECONDS = 60.0
POLL_SECONDS = 0.01


class OpenStream(ABC):
    """A stream of frames.  A session has one at a time."""

    interruption: MaskmeshError | None = None
    """The error that interrupted the stream."""
    is_ending: bool = False
    """Whether the stream is closing."""

    def interrupt(self, error: MaskmeshError) -> None:
        """End the stream with an error, because another one replaces it or its session ends."""
        self.interruption = error
        self.stop(error)

    @contextlib.contextmanager
    def raising_interruption(self) -> Iterator[None]:
        """Raise the interruption in place of the errors that it causes in the body."""
        try:
            yield
        except (MaskmeshError, grpc.RpcError):
            if self.interruption is not None:
                raise self.interruption from None
            raise

    @abstractmethod
    def stop(self, error: MaskmeshError) -> None:
        """Stop the tasks of the stream, and send ``error`` to its client."""


@dataclass(slots=True, eq=False)
class GatewaySession(Lease):
    """One session.  Its objects are in the tracker."""

    frames: Frames
    owner: Owner
    """The tracker that owns the session, according to the latest information of this gateway."""
    caller: Caller
    """The caller that created the session."""
    span: SpanContext
    """The call that created the session; the traces of its frames link to it."""
    replicator: FrameReplicator = field(default_factory=FrameReplicator)
    """Copies its frames to the store."""
    refs: dict[int, EmbeddingRef] = field(default_factory=dict)
    """References to the embeddings of its frames, by frame index; the embeddings may be evicted."""
    encoder_addresses: set[str] = field(default_factory=set)
    """Encoders that have made embeddings of its frames."""
    moving: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while another owner is chosen."""
    last_frame_index: int | None = None
    """The frame that was delivered last."""
    has_ended: bool = False
    answers: IdempotencyCache = field(default_factory=IdempotencyCache)
    """Responses to uploads that had an idempotency key."""
    store_renewed: float = 0.0
    """When its lease in the store was renewed, on the monotonic clock."""
    num_changes: int = 0
    """Number of calls that changed its objects, as far as this gateway has made them."""
    upload_bytes: int = 0
    """Size of the upload in progress."""
    had_stream: bool = False
    """Whether a stream was open before; the tracker may still compute its last step."""
    closing: MaskmeshError | None = None
    """The error with which new streams are refused; None if they are accepted."""
    _reader: FrameReader | None = None
    _stream: OpenStream | None = None

    @contextlib.asynccontextmanager
    async def streaming(self, stream: OpenStream, *, takes_over: bool) -> AsyncIterator[None]:
        """Register ``stream`` as the session's stream while the context is open.

        If ``takes_over``, an open stream is interrupted, because the gateway may not have noticed yet that
        its client has disconnected.  Otherwise this waits for an open stream to close, and raises
        SessionBusy if it stays open.
        """
        if takes_over and self._stream is not None:
            self._stream.interrupt(SessionBusy("another stream resumed", session_id=self.session_id))
        elif not takes_over:
            await self._wait_for_stream()
        if self.closing is not None:
            raise self.closing
        self._stream = stream
        self.had_stream = True
        try:
            yield
        finally:
            if self._stream is stream:
                self._stream = None

    async def _wait_for_stream(self) -> None:
        start = time.monotonic()
        while self._stream is not None:
            limit = ENDING_STREAM_SECONDS if self._stream.is_ending else OPEN_STREAM_SECONDS
            if time.monotonic() - start >= limit:
                raise SessionBusy("the session is already propagating", session_id=self.session_id)
            await asyncio.sleep(POLL_SECONDS)

    async def read(self, frame_index: int) -> Image:
        """One frame, for an interactive call; propagations open their own readers."""
        if self._reader is None:
            self._reader = self.frames.open_reader()
        return await self._reader.read(frame_index)

    async def prepare_reader(self) -> None:
        """Open the reader after an upload, so that the first prompt is not delayed by it."""
        if self._reader is None:
            self._reader = self.frames.open_reader()
            await self._reader.prepare()

    def set_ref(self, frame_index: int, ref: EmbeddingRef) -> None:
        """Store the reference to the embedding of a frame."""
        self.refs[frame_index] = ref
        self.encoder_addresses.add(ref.address)
        while len(self.refs) > MAX_REFS:
            del self.refs[next(iter(self.refs))]

    def drop_ref(self, frame_index: int) -> None:
        """Remove the reference to an embedding that was evicted."""
        self.refs.pop(frame_index, None)

    @property
    def is_open(self) -> bool:
        """Whether it has a stream."""
        return self._stream is not None

    def is_streaming(self, stream: OpenStream) -> bool:
        """Whether ``stream`` is the session's stream."""
        return self._stream is stream

    def interrupt(self, error: MaskmeshError) -> None:
        """Interrupt the session's stream, if it has one."""
        if self._stream is not None:
            self._stream.interrupt(error)

    @property
    def is_live(self) -> bool:
        """Whether its frames come from a live stream."""
        return self.frames.is_live

    async def close(self) -> None:
        """End the session's stream and delete its frames."""
        self.has_ended = True
        self.interrupt(SessionNotFound("the session has ended", session_id=self.session_id))
        if self._reader is not None:
            self._reader.close()
        await self.replicator.close()
        await self.frames.close()
