"""A bound on the memory of the open video decoders of all sessions."""

import contextlib
import threading
from collections import deque
from collections.abc import Iterator

from gateway.config import DECODER_BYTES
from maskmesh.media.video_reader import VideoReader

# Memory of an open decoder: the pictures that it keeps as references and those of its threads, 1.5 to 3 bytes
# a pixel each, and a fixed part.
_BYTES_PER_PIXEL = 12
_FIXED_BYTES = 4 * 2**20


class DecoderPool:
    """The open decoders of all sessions, of about ``max_bytes`` together; safe for threads.

    A decoder stays open after a read, since the next frame is cheap then.  When the budget is exceeded, the
    decoder that was not used for longest is closed; its reader opens it again, at the cost of a seek.
    """

    def __init__(self, max_bytes: int = DECODER_BYTES) -> None:
        self._max_bytes = max_bytes
        self._open: dict[VideoReader, int] = {}  # bytes; the least recently used first
        self._in_use: set[VideoReader] = set()
        self._waiting: deque[object] = deque()  # in the order of their arrival
        self._changed = threading.Condition()

    @property
    def num_open(self) -> int:
        """Number of open decoders."""
        return len(self._open)

    @contextlib.contextmanager
    def use(self, reader: VideoReader) -> Iterator[None]:
        """Reserve memory for a reader's decoder, and keep it open for the body."""
        num_bytes = _FIXED_BYTES + _BYTES_PER_PIXEL * reader.index.width * reader.index.height
        num_bytes = min(num_bytes, self._max_bytes)
        turn = object()
        with self._changed:
            self._open.pop(reader, None)
            self._waiting.append(turn)
            try:
                while self._waiting[0] is not turn or not self._make_room(num_bytes):
                    self._changed.wait()
            finally:
                self._waiting.remove(turn)
                self._changed.notify_all()
            self._open[reader] = num_bytes
            self._in_use.add(reader)
        try:
            yield
        finally:
            with self._changed:
                self._in_use.discard(reader)
                self._changed.notify_all()

    def _make_room(self, num_bytes: int) -> bool:
        """Close decoders that are not in use; returns whether there is room then."""
        while sum(self._open.values()) + num_bytes > self._max_bytes:
            idle = next((other for other in self._open if other not in self._in_use), None)
            if idle is None:
                return False
            del self._open[idle]
            idle.close()
        return True

    def close(self, reader: VideoReader) -> None:
        """Close a reader's decoder for good."""
        with self._changed:
            self._open.pop(reader, None)
            reader.close()
            self._changed.notify_all()
