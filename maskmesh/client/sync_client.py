"""The same client without asyncio, for scripts and notebooks.

    with Client("localhost:50050") as client, client.session() as session:
        session.append_video("clip.mp4")
        session.add_prompt(0, 1, points=[(480, 270)])
        for frame in session.propagate():
            print(frame.frame_index, frame.objects[1].mask.decode().sum())

Every call runs on an event loop of the client's own, on another thread, and blocks until it is done; what
it takes, returns and raises is said at the call of the same name in :class:`maskmesh.AsyncClient`,
:class:`maskmesh.VideoSession` and :class:`maskmesh.LiveStream`.
"""

from collections.abc import (
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from maskmesh.client.async_client import AsyncClient
from maskmesh.client.background_loop import BackgroundLoop
from maskmesh.client.live import LiveResult, LiveStream, OnRejected
from maskmesh.client.session import DEFAULT_MASKS, VideoSession
from maskmesh.history import HistoryEntry, SessionState
from maskmesh.images import ImageLike
from maskmesh.masks import BinaryMask, BoolArray, MaskOptions
from maskmesh.rpc.tls import Tls
from maskmesh.types import Box, FrameMasks, ImageMasks, ModelInfo, Point, Prompt

T = TypeVar("T")
C = TypeVar("C")


def _like(theirs: type) -> Callable[[type[C]], type[C]]:
    """Gives methods the docstrings of those with equal names."""

    def copy_docstrings(ours: type[C]) -> type[C]:
        for name, member in vars(ours).items():
            text = getattr(getattr(theirs, name, None), "__doc__", None)
            if callable(member) and not name.startswith("_") and text:
                member.__doc__ = text
        return ours

    return copy_docstrings


@_like(AsyncClient)
class Client:
    """A connection to a gateway, see :class:`maskmesh.AsyncClient`.  May be used by several threads."""

    def __init__(
        self,
        endpoint: str,
        *,
        timeout: float | None = None,
        api_key: str = "",
        tls: Tls | None = None,
    ) -> None:
        self._loop = BackgroundLoop()
        try:
            self._client = self._loop.run(_make(endpoint, timeout, api_key, tls))
        except BaseException:
            self._loop.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._loop.run(self._client.close())
        self._loop.close()

    def segment_image(
        self,
        image: ImageLike,
        prompts: Mapping[int, Prompt],
        *,
        multimask_output: bool = False,
        mask_options: MaskOptions = DEFAULT_MASKS,
    ) -> ImageMasks:
        """See ``AsyncClient.segment_image``."""
        return self._loop.run(
            self._client.segment_image(
                image, prompts, multimask_output=multimask_output, mask_options=mask_options
            )
        )

    def create_session(self, *, ttl: timedelta | None = None) -> "SyncVideoSession":
        """See ``AsyncClient.create_session``."""
        return SyncVideoSession(self._loop, self._loop.run(self._client.create_session(ttl=ttl)))

    def attach(self, session_id: str) -> "SyncVideoSession":
        """See ``AsyncClient.attach``."""
        return SyncVideoSession(self._loop, self._loop.run(self._client.attach(session_id)))

    @contextmanager
    def session(self, *, ttl: timedelta | None = None) -> Iterator["SyncVideoSession"]:
        """See ``AsyncClient.session``."""
        with self._loop.entered(self._client.session(ttl=ttl)) as session:
            yield SyncVideoSession(self._loop, session)

    @contextmanager
    def stream(
        self,
        *,
        skip: bool = False,
        mask_options: MaskOptions = DEFAULT_MASKS,
        ttl: timedelta | None = None,
        resume_token: str = "",
        on_rejected: OnRejected | None = None,
    ) -> Iterator["SyncLiveStream"]:
        """See ``AsyncClient.stream``; ``on_rejected`` is called on the client's own thread."""
        stream = self._client.stream(
            skip=skip,
            mask_options=mask_options,
            ttl=ttl,
            resume_token=resume_token,
            on_rejected=on_rejected,
        )
        with self._loop.entered(stream) as opened:
            yield SyncLiveStream(self._loop, opened)


async def _make(endpoint: str, timeout: float | None, api_key: str, tls: Tls | None) -> AsyncClient:
    """gRPC's channel belongs to the loop that it is made on."""
    return AsyncClient(endpoint, timeout=timeout, api_key=api_key, tls=tls)


@_like(VideoSession)
class SyncVideoSession:
    """One video and the objects in it, see :class:`maskmesh.VideoSession`."""

    def __init__(self, loop: BackgroundLoop, session: VideoSession) -> None:
        self._loop = loop
        self._session = session

    @property
    def session_id(self) -> str:
        """The id that names the session."""
        return self._session.session_id

    @property
    def ttl(self) -> timedelta:
        """How long it may stay unused, as the server decided."""
        return self._session.ttl

    @property
    def model(self) -> ModelInfo:
        """The model that the session uses."""
        return self._session.model

    @property
    def revision(self) -> int:
        """The revision after the last change that was made here."""
        return self._session.revision

    @property
    def num_frames(self) -> int:
        """Frames after the last upload that was made here."""
        return self._session.num_frames

    @property
    def width(self) -> int:
        """Width of the frames in pixels."""
        return self._session.width

    @property
    def height(self) -> int:
        """Height of the frames in pixels."""
        return self._session.height

    @property
    def frames_per_second(self) -> float:
        """Mean rate of a video, 0 for images."""
        return self._session.frames_per_second

    @property
    def trace_id(self) -> str:
        """The trace to which those of its frames are linked."""
        return self._session.trace_id

    def append_video(self, video: bytes | Path | str, *, idempotency_key: str = "") -> int:
        """See ``VideoSession.append_video``."""
        return self._loop.run(self._session.append_video(video, idempotency_key=idempotency_key))

    def append_frames(
        self,
        frames: Iterable[ImageLike],
        *,
        first_frame_index: int | None = None,
        idempotency_key: str = "",
    ) -> int:
        """See ``VideoSession.append_frames``."""
        return self._loop.run(
            self._session.append_frames(
                frames, first_frame_index=first_frame_index, idempotency_key=idempotency_key
            )
        )

    def get_state(self) -> SessionState:
        """See ``VideoSession.get_state``."""
        return self._loop.run(self._session.get_state())

    def add_prompt(
        self,
        frame_index: int,
        obj_id: int,
        *,
        points: Sequence[Point | Sequence[float]] = (),
        box: Box | Sequence[float] | None = None,
        mask: BoolArray | BinaryMask | None = None,
        clear_previous: bool = False,
        mask_options: MaskOptions = DEFAULT_MASKS,
        expected_revision: int | None = None,
        idempotency_key: str = "",
    ) -> FrameMasks:
        """See ``VideoSession.add_prompt``."""
        return self._loop.run(
            self._session.add_prompt(
                frame_index,
                obj_id,
                points=points,
                box=box,
                mask=mask,
                clear_previous=clear_previous,
                mask_options=mask_options,
                expected_revision=expected_revision,
                idempotency_key=idempotency_key,
            )
        )

    def clear_prompts(
        self,
        frame_index: int,
        obj_id: int,
        *,
        expected_revision: int | None = None,
        idempotency_key: str = "",
    ) -> list[int]:
        """See ``VideoSession.clear_prompts``."""
        return self._loop.run(
            self._session.clear_prompts(
                frame_index, obj_id, expected_revision=expected_revision, idempotency_key=idempotency_key
            )
        )

    def propagate(
        self,
        *,
        start_frame_index: int | None = None,
        max_frames: int = 0,
        reverse: bool = False,
        mask_options: MaskOptions = DEFAULT_MASKS,
        resume_token: str = "",
        timeout: float | None = None,
    ) -> Generator[FrameMasks, None, None]:
        """See ``VideoSession.propagate``."""
        return self._loop.iterate(
            self._session.propagate(
                start_frame_index=start_frame_index,
                max_frames=max_frames,
                reverse=reverse,
                mask_options=mask_options,
                resume_token=resume_token,
                timeout=timeout,
            )
        )

    def remove_object(
        self, obj_id: int, *, expected_revision: int | None = None, idempotency_key: str = ""
    ) -> list[int]:
        """See ``VideoSession.remove_object``."""
        return self._loop.run(
            self._session.remove_object(
                obj_id, expected_revision=expected_revision, idempotency_key=idempotency_key
            )
        )

    def reset(self, *, expected_revision: int | None = None, idempotency_key: str = "") -> None:
        """See ``VideoSession.reset``."""
        self._loop.run(
            self._session.reset(expected_revision=expected_revision, idempotency_key=idempotency_key)
        )

    def replay(self, history: Sequence[HistoryEntry]) -> None:
        """See ``VideoSession.replay``."""
        self._loop.run(self._session.replay(history))

    def recover(self, *, track: bool = False) -> None:
        """See ``VideoSession.recover``."""
        self._loop.run(self._session.recover(track=track))

    def delete(self) -> None:
        """See ``VideoSession.delete``."""
        self._loop.run(self._session.delete())


@_like(LiveStream)
class SyncLiveStream:
    """One live stream, see :class:`maskmesh.LiveStream`.  Send on one thread and iterate on another."""

    def __init__(self, loop: BackgroundLoop, stream: LiveStream) -> None:
        self._loop = loop
        self._stream = stream

    @property
    def session_id(self) -> str:
        """The id that names its session."""
        return self._stream.session_id

    @property
    def next_sequence(self) -> int:
        """The number of the frame that is sent next."""
        return self._stream.next_sequence

    @property
    def ttl(self) -> timedelta:
        """How long its session stays after the stream broke."""
        return self._stream.ttl

    @property
    def model(self) -> ModelInfo | None:
        """The model that it uses."""
        return self._stream.model

    @property
    def window(self) -> int:
        """The largest number of frames that are under way at once."""
        return self._stream.window

    def send(self, image: ImageLike) -> int:
        """See ``LiveStream.send``."""
        return self._loop.run(self._stream.send(image))

    def add_prompt(
        self,
        obj_id: int,
        *,
        points: Sequence[Point | Sequence[float]] = (),
        box: Box | Sequence[float] | None = None,
        mask: BoolArray | BinaryMask | None = None,
        sequence: int | None = None,
        clear_previous: bool = False,
    ) -> FrameMasks:
        """See ``LiveStream.add_prompt``."""
        return self._loop.run(
            self._stream.add_prompt(
                obj_id,
                points=points,
                box=box,
                mask=mask,
                sequence=sequence,
                clear_previous=clear_previous,
            )
        )

    def remove_object(self, obj_id: int) -> list[int]:
        """See ``LiveStream.remove_object``."""
        return self._loop.run(self._stream.remove_object(obj_id))

    def finish(self) -> None:
        """See ``LiveStream.finish``."""
        self._loop.run(self._stream.finish())

    def leave(self) -> None:
        """See ``LiveStream.leave``."""
        self._loop.run(self._stream.leave())

    def __iter__(self) -> Iterator[LiveResult]:
        """Results in the order of their frames."""
        return self._loop.iterate(aiter(self._stream))
