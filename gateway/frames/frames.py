"""Frames of a session: the common interface of uploaded frames and of live frames."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from maskmesh.errors import InvalidRequest, SessionNotFound
from maskmesh.types import Image

T = TypeVar("T")


class FrameReader(ABC):
    """Reads frames of one session for one consumer."""

    @abstractmethod
    async def read(self, frame_index: int) -> Image:
        """One frame.

        Raises InvalidVideo if it cannot be decoded, FrameOutOfMemory if it was dropped, SessionNotFound if
        the session has ended.
        """

    async def prepare(self) -> None:  # noqa: B027 - most readers have nothing to do
        """Do the work of the first read in advance."""

    def close(self) -> None:  # noqa: B027 - most readers hold nothing
        """Free the reader's resources."""


class Frames(ABC):
    """Frames by index, all of one size."""

    num_frames: int = 0
    width: int = 0
    height: int = 0
    num_bytes: int = 0
    """Size of the frames on disk."""
    is_live: bool = False
    """Whether the frames are those of a live stream."""

    @property
    def frames_per_second(self) -> float:
        """Mean rate of a video, 0 for images."""
        return 0.0

    @property
    def pixel_aspect(self) -> float:
        """Width of a pixel divided by its height."""
        return 1.0

    def time(self, frame_index: int) -> float | None:
        """Time of a frame of a video in seconds since the first one; None for images."""
        return None

    def repeats_previous(self, frame_index: int) -> bool:
        """Whether a frame cannot be decoded, so that it has the picture of the frame before it."""
        return False

    def check_index(self, frame_index: int, *, field: str = "frame_index") -> None:
        """Raises InvalidRequest for a frame that the session does not have."""
        if not 0 <= frame_index < self.num_frames:
            raise InvalidRequest(
                f"the session has {self.num_frames} frames, no frame {frame_index}", field=field
            )

    @abstractmethod
    def open_reader(self, *, reverse: bool = False) -> FrameReader:
        """Open a reader for one consumer; a seek of one reader does not slow down other readers.

        ``reverse`` is whether frames will be read from higher indices to lower ones.
        """

    async def close(self) -> None:  # noqa: B027 - some hold nothing but memory
        """Delete all frames."""


class ThreadedReader(FrameReader):
    """Reads with a blocking function on a separate thread.

    The reader is closed on the same thread, after reads in progress, even if their callers were cancelled.
    """

    def __init__(
        self,
        read: Callable[[int], Image],
        close: Callable[[], None],
        session_id: str,
        *,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self._read = read
        self._close = close
        self._prepare = prepare
        self._session_id = session_id
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="read-frames")

    async def read(self, frame_index: int) -> Image:
        return await self._on_thread(self._read, frame_index)

    async def prepare(self) -> None:
        if self._prepare is not None:
            await self._on_thread(self._prepare)

    def close(self) -> None:
        """Close after the reads in progress."""
        self._thread.submit(self._close)
        self._thread.shutdown(wait=False)

    async def _on_thread(self, function: Callable[..., T], *arguments: int) -> T:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, function, *arguments)
        except (FileNotFoundError, RuntimeError) as error:  # the file is gone, or the thread shut down
            raise SessionNotFound("the session has ended", session_id=self._session_id) from error
