"""The blocking client: the asynchronous one without asyncio, for scripts and notebooks.

    with Client("localhost:50050") as client, client.session() as session:
        session.append_video("clip.mp4")
        session.add_prompt(0, 1, points=[(480, 270)])
        for frame in session.propagate():
            print(frame.frame_index, frame.objects[1].mask.decode().sum())

Every call runs on an event loop of the client's own, on another thread, and blocks until it is done.
Methods have the signature and the docstring of the method of the same name in
:class:`maskmesh.AsyncClient`, :class:`maskmesh.VideoSession` and :class:`maskmesh.LiveStream`.
"""

import functools
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from maskmesh.client.async_client import AsyncClient
from maskmesh.client.background_loop import BackgroundLoop
from maskmesh.client.live.live_result import LiveResult
from maskmesh.client.live.live_stream import LiveStream, OnRejected
from maskmesh.client.live.overload import Overload
from maskmesh.client.session import DEFAULT_MASKS, VideoSession
from maskmesh.erasing import EraseOptions
from maskmesh.masks import MaskOptions
from maskmesh.points import MotionOptions
from maskmesh.records.budget import NO_BUDGET, Budget
from maskmesh.records.summary import StreamSummary
from maskmesh.types import ModelInfo, Tls

P = ParamSpec("P")
T = TypeVar("T")
W = TypeVar("W")
F = TypeVar("F", bound=Callable[..., Any])


def _documented_by(method: Callable[..., Any]) -> Callable[[F], F]:
    """Give a method the docstring of the asynchronous ``method``."""

    def decorate(function: F) -> F:
        function.__doc__ = method.__doc__
        return function

    return decorate


class _Blocking(Generic[W]):
    """An object of the asynchronous client and the loop that it runs on."""

    def __init__(self, loop: BackgroundLoop, wrapped: W) -> None:
        self._loop = loop
        self._wrapped = wrapped


def _blocking(
    method: Callable[Concatenate[W, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[_Blocking[W], P], T]:
    """A method of the wrapped object, which blocks until its result is there."""

    def call(self: _Blocking[W], /, *arguments: P.args, **options: P.kwargs) -> T:
        return self._loop.run(method(self._wrapped, *arguments, **options))

    functools.update_wrapper(call, method)
    return call


def _iterating(
    method: Callable[Concatenate[W, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[_Blocking[W], P], Generator[T, None, None]]:
    """A method of the wrapped object whose items are iterated over."""

    def call(self: _Blocking[W], /, *arguments: P.args, **options: P.kwargs) -> Generator[T, None, None]:
        return self._loop.iterate(method(self._wrapped, *arguments, **options))

    functools.update_wrapper(call, method)
    return call


class _Attribute(Generic[T]):
    """An attribute of the wrapped object, by the same name."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: _Blocking[Any], owner: type) -> T:
        value: T = getattr(instance._wrapped, self._name)
        return value


class SyncVideoSession(_Blocking[VideoSession]):
    """One video and the objects in it, see :class:`maskmesh.VideoSession`."""

    session_id = _Attribute[str]()
    ttl = _Attribute[timedelta]()
    model = _Attribute[ModelInfo]()
    trace_id = _Attribute[str]()
    revision = _Attribute[int]()
    num_frames = _Attribute[int]()
    width = _Attribute[int]()
    height = _Attribute[int]()
    frames_per_second = _Attribute[float]()

    append_video = _blocking(VideoSession.append_video)
    append_frames = _blocking(VideoSession.append_frames)
    get_state = _blocking(VideoSession.get_state)
    add_prompt = _blocking(VideoSession.add_prompt)
    add_concept = _blocking(VideoSession.add_concept)
    remove_concept = _blocking(VideoSession.remove_concept)
    clear_prompts = _blocking(VideoSession.clear_prompts)
    propagate = _iterating(VideoSession.propagate)
    track_points = _iterating(VideoSession.track_points)
    erase = _iterating(VideoSession.erase)
    remove_object = _blocking(VideoSession.remove_object)
    reset = _blocking(VideoSession.reset)
    replay = _blocking(VideoSession.replay)
    recover = _blocking(VideoSession.recover)
    delete = _blocking(VideoSession.delete)


class SyncLiveStream(_Blocking[LiveStream]):
    """One live stream, see :class:`maskmesh.LiveStream`.  Send on one thread and iterate on another."""

    session_id = _Attribute[str]()
    next_sequence = _Attribute[int]()
    ttl = _Attribute[timedelta]()
    model = _Attribute[ModelInfo | None]()
    window = _Attribute[int]()
    summary = _Attribute[StreamSummary | None]()

    send = _blocking(LiveStream.send)
    add_prompt = _blocking(LiveStream.add_prompt)
    remove_object = _blocking(LiveStream.remove_object)
    add_concept = _blocking(LiveStream.add_concept)
    remove_concept = _blocking(LiveStream.remove_concept)
    add_points = _blocking(LiveStream.add_points)
    remove_points = _blocking(LiveStream.remove_points)
    finish = _blocking(LiveStream.finish)
    leave = _blocking(LiveStream.leave)

    def __iter__(self) -> Iterator[LiveResult]:
        return self._loop.iterate(aiter(self._wrapped))


class Client(_Blocking[AsyncClient]):
    """A connection to a gateway, see :class:`maskmesh.AsyncClient`.  May be used by several threads.

    Callbacks such as ``on_rejected`` are called on a thread of the client.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        timeout: float | None = None,
        api_key: str = "",
        tls: Tls | None = None,
    ) -> None:
        """Arguments and errors as for :class:`maskmesh.AsyncClient`."""
        loop = BackgroundLoop()

        async def connect() -> AsyncClient:
            # On the loop, because a channel of gRPC belongs to the loop that it is made on.
            return AsyncClient(endpoint, timeout=timeout, api_key=api_key, tls=tls)

        try:
            super().__init__(loop, loop.run(connect()))
        except BaseException:
            loop.close()
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

    @_documented_by(AsyncClient.close)
    def close(self) -> None:
        self._loop.run(self._wrapped.close())
        self._loop.close()

    segment_image = _blocking(AsyncClient.segment_image)
    segment_concepts = _blocking(AsyncClient.segment_concepts)
    segment_everything = _blocking(AsyncClient.segment_everything)
    mesh = _blocking(AsyncClient.mesh)

    @_documented_by(AsyncClient.create_session)
    def create_session(self, *, ttl: timedelta | None = None) -> SyncVideoSession:
        return SyncVideoSession(self._loop, self._loop.run(self._wrapped.create_session(ttl=ttl)))

    @_documented_by(AsyncClient.attach)
    def attach(self, session_id: str) -> SyncVideoSession:
        return SyncVideoSession(self._loop, self._loop.run(self._wrapped.attach(session_id)))

    @_documented_by(AsyncClient.session)
    @contextmanager
    def session(self, *, ttl: timedelta | None = None) -> Iterator[SyncVideoSession]:
        with self._loop.entered(self._wrapped.session(ttl=ttl)) as session:
            yield SyncVideoSession(self._loop, session)

    @_documented_by(AsyncClient.stream)
    @contextmanager
    def stream(
        self,
        *,
        overload: Overload = "wait",
        budget: Budget = NO_BUDGET,
        motion_gate: float | None = None,
        erase: EraseOptions | None = None,
        motion: MotionOptions | None = None,
        mask_options: MaskOptions = DEFAULT_MASKS,
        ttl: timedelta | None = None,
        resume_token: str = "",
        on_rejected: OnRejected | None = None,
    ) -> Iterator[SyncLiveStream]:
        stream = self._wrapped.stream(
            overload=overload,
            budget=budget,
            motion_gate=motion_gate,
            erase=erase,
            motion=motion,
            mask_options=mask_options,
            ttl=ttl,
            resume_token=resume_token,
            on_rejected=on_rejected,
        )
        with self._loop.entered(stream) as opened:
            yield SyncLiveStream(self._loop, opened)
