"""Uploaded frames of a session, on disk in their original form."""

import asyncio
import contextlib
import errno
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from gateway.frames.decoder_pool import DecoderPool
from gateway.frames.frames import FrameReader, Frames, ThreadedReader
from maskmesh.errors import InvalidRequest, ResourceExhausted, SessionNotFound
from maskmesh.media.containers import FIELD as VIDEO_FIELD
from maskmesh.media.pictures import PixelLimit, image_size
from maskmesh.media.video_index import VideoIndex, index_video
from maskmesh.media.video_reader import ReverseVideoReader, VideoReader
from maskmesh.types import EncodedImage, Image, RawImage

T = TypeVar("T")

FIELD = "frame"


@dataclass(frozen=True, slots=True)
class FrameLimits:
    """Limits of one session."""

    max_bytes: int
    max_frames: int
    pixels: PixelLimit


class FrameStore(Frames):
    """Frames of one session: images in the order of their upload, or one video; all of one size.

    Frames are added by :class:`Addition`, completely or not at all.
    """

    def __init__(
        self,
        session_id: str,
        parent: Path | None,
        limits: FrameLimits,
        decoders: DecoderPool | None = None,
    ) -> None:
        self.limits = limits
        self._decoders = decoders or DecoderPool()
        self.adding = asyncio.Lock()
        """Held while frames are added."""
        self._session_id = session_id
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="add-frames")
        with _full_disk_is_refused():
            self.folder = Path(tempfile.mkdtemp(prefix="maskmesh-session-", dir=parent))
        self.num_bytes = 0
        self.video: VideoIndex | None = None
        self._repeated: set[int] = set()

    @property
    def frames_per_second(self) -> float:
        """Mean rate of a video, 0 for images."""
        return self.video.frames_per_second if self.video else 0.0

    @property
    def pixel_aspect(self) -> float:
        return float(self.video.pixel_aspect) if self.video else 1.0

    def time(self, frame_index: int) -> float | None:
        return float(self.video.times[frame_index]) if self.video else None

    def repeats_previous(self, frame_index: int) -> bool:
        return frame_index in self._repeated

    def open_reader(self, *, reverse: bool = False) -> FrameReader:
        if self.video is None:
            return ThreadedReader(self._read_image, lambda: None, self._session_id)
        kind = ReverseVideoReader if reverse else VideoReader
        reader = kind(self.folder / "video", self.video)

        def read(frame_index: int) -> Image:
            with self._decoders.use(reader):
                frame = reader.read(frame_index)
            if frame.is_repeated:
                self._repeated.add(frame_index)
            return RawImage(frame.pixels)

        def prepare() -> None:
            with self._decoders.use(reader):
                reader.prepare()

        return ThreadedReader(read, lambda: self._decoders.close(reader), self._session_id, prepare=prepare)

    def _read_image(self, frame_index: int) -> Image:
        """One image in its original form."""
        raw = self.folder / f"{frame_index}.rgb"
        if not raw.exists():
            return EncodedImage((self.folder / f"{frame_index}.image").read_bytes())
        pixels = np.frombuffer(raw.read_bytes(), dtype=np.uint8)
        return RawImage(pixels.reshape(self.height, self.width, 3))

    async def on_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run a step of an addition on the thread of this store.

        Raises SessionNotFound if the session has ended.
        """
        try:
            future = self._thread.submit(function, *arguments)
        except RuntimeError as error:  # the thread has been shut down
            raise SessionNotFound("the session has ended", session_id=self._session_id) from error
        return await asyncio.wrap_future(future)

    async def close(self) -> None:
        """Delete all frames and stop the thread."""
        await self.on_thread(shutil.rmtree, self.folder, True)
        self._thread.shutdown(wait=False)


class Addition:
    """An upload in progress: :meth:`commit` adds its frames, :meth:`close` drops frames that are not
    committed.

    Methods block; used by one thread at a time.
    """

    def __init__(self, store: FrameStore) -> None:
        self._store = store
        with _full_disk_is_refused():
            self._folder = Path(tempfile.mkdtemp(prefix="addition-", dir=store.folder))
        self._bytes = 0
        self._count = 0
        self._size: tuple[int, int] | None = (store.width, store.height) if store.width else None
        self._has_video = False

    @property
    def num_bytes(self) -> int:
        """Size of the upload so far, in bytes."""
        return self._bytes

    def add_frame(self, image: Image) -> None:
        """Add one image.

        Raises InvalidImage or ImageTooLarge if it cannot be opened, InvalidRequest if its size is not that of
        the other frames or the session has a video, ResourceExhausted beyond the limits.
        """
        if self._has_video or self._store.video is not None:
            raise InvalidRequest("a session has one video or images, not both", field=FIELD)
        if isinstance(image, RawImage):
            data, suffix = image.pixels.tobytes(), "rgb"
        else:
            data, suffix = image.data, "image"
        size = image_size(image, self._store.limits.pixels, field=FIELD)
        self._count_bytes(len(data))
        if self._size not in (None, size):
            raise InvalidRequest(
                f"the frame is {size[0]} x {size[1]}, the others {self._size[0]} x {self._size[1]}",
                field=FIELD,
            )
        limit = self._store.limits.max_frames
        if self._store.num_frames + self._count >= limit:
            raise ResourceExhausted(f"a session can have at most {limit} frames", resource="frames")
        self._size = size
        index = self._store.num_frames + self._count
        with _full_disk_is_refused():
            (self._folder / f"{index}.{suffix}").write_bytes(data)
        self._count += 1

    def add_video_chunk(self, chunk: bytes) -> None:
        """Add the next part of the video.

        Raises InvalidRequest if the session has frames, ResourceExhausted.
        """
        if self._count or self._store.num_frames:
            raise InvalidRequest("a session has one video or images, not both", field=VIDEO_FIELD)
        self._has_video = True
        self._count_bytes(len(chunk))
        with _full_disk_is_refused(), (self._folder / "video").open("ab") as file:
            file.write(chunk)

    def commit(self) -> int:
        """Add all frames to the session; returns the index of the first.

        Raises InvalidVideo if the video cannot be read, InvalidRequest if nothing was added.
        """
        store, first, index = self._store, self._store.num_frames, None
        if self._has_video:
            limits = store.limits
            index = index_video(
                self._folder / "video",
                max_frames=limits.max_frames,
                limit=limits.pixels,
            )
            self._count, self._size = index.num_frames, (index.width, index.height)
        if not self._count or self._size is None:
            raise InvalidRequest("no frames were sent", field="content")
        for path in self._folder.iterdir():
            path.rename(store.folder / path.name)
        store.video = index
        store.num_frames += self._count
        store.num_bytes += self._bytes
        store.width, store.height = self._size
        self.close()
        return first

    def close(self) -> None:
        """Drop frames that were not committed."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _count_bytes(self, number: int) -> None:
        self._bytes += number
        if self._store.num_bytes + self._bytes > self._store.limits.max_bytes:
            raise ResourceExhausted(
                f"a session can have at most {self._store.limits.max_bytes} bytes", resource="bytes"
            )


@contextlib.contextmanager
def _full_disk_is_refused() -> Iterator[None]:
    """Raises ResourceExhausted if the body finds no space on the disk."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ResourceExhausted(
            "the disk of the gateway is full (its folder is MASKMESH_GATEWAY_DATA_DIR)", resource="disk"
        ) from error
