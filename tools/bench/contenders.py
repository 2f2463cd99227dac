"""The compared trackers: transformers, the stages of the mesh in one process, and the mesh.

All track the same frames with the same clicks, and report the seconds of each frame.  Each has its own
processes, which are idle during the rounds of the others.
"""

import asyncio
import multiprocessing
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from maskmesh import AsyncClient, FrameMasks, LowResLogits, MaskFormat, MaskOptions, ModelInfo
from maskmesh.cli.mesh.local_mesh import LocalMesh, MeshOptions
from maskmesh.client.session import VideoSession

Click = tuple[float, float]
Logits = NDArray[np.float32]


class Contender(Protocol):
    """The interface of a compared tracker."""

    name: str

    async def begin(self, clicks: Sequence[Click]) -> float:
        """Restart and prompt one object per click on frame 0; returns the seconds of the first click."""

    async def turn(self, frames: range) -> list[float]:
        """Track consecutive frames; returns the seconds of each frame except the first.

        The first frame is slower: during the rounds of the others, CPU caches go cold and free memory is
        returned.
        """

    async def masks(self, frame: int) -> list[Logits]:
        """Track one more frame; returns the mask logits of each object."""

    async def close(self) -> None:
        """Stop the processes."""


class LocalTracker(Protocol):
    """A tracker that a :class:`ProcessContender` runs."""

    def begin(self, clicks: Sequence[Click]) -> None:
        """See :class:`Contender`."""

    def track(self, frame: int) -> list[Logits]:
        """Track the next frame; returns the mask logits of each object."""


class ProcessContender:
    """A tracker with blocking calls in its own process.

    The process creates the tracker by calling ``make`` with ``arguments``.
    """

    def __init__(self, name: str, make: Callable[..., LocalTracker], *arguments: Any) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        self._process.start()

    async def begin(self, clicks: Sequence[Click]) -> float:
        """See :class:`Contender`."""
        return float((await self._call("begin", clicks))[0])

    async def turn(self, frames: range) -> list[float]:
        """See :class:`Contender`."""
        return [(await self._call("track", frame))[0] for frame in frames][1:]

    async def masks(self, frame: int) -> list[Logits]:
        """See :class:`Contender`."""
        found: list[Logits] = (await self._call("track", frame))[1]
        return found

    async def close(self) -> None:
        """See :class:`Contender`."""
        self._connection.close()
        await asyncio.to_thread(self._process.join)

    async def _call(self, method: str, argument: Any) -> tuple[float, Any]:
        self._connection.send((method, argument))
        answer: tuple[float, Any] = await asyncio.to_thread(self._connection.recv)
        return answer


def _serve(connection: Connection, make: Callable[..., LocalTracker], arguments: tuple[Any, ...]) -> None:
    tracker = make(*arguments)
    while True:
        try:
            method, argument = connection.recv()
        except EOFError:
            return
        start = time.perf_counter()
        answer = getattr(tracker, method)(argument)
        connection.send((time.perf_counter() - start, answer))


class MeshContender:
    """The mesh through gRPC, with tracing; each :meth:`begin` starts a new mesh with empty caches."""

    def __init__(self, name: str, options: MeshOptions, video: Path) -> None:
        self.name = name
        self._options = options
        self._video = video
        self._running = AsyncExitStack()
        self._session: VideoSession | None = None

    @property
    def model(self) -> ModelInfo:
        """The model of the mesh."""
        assert self._session is not None
        return self._session.model

    async def begin(self, clicks: Sequence[Click]) -> float:
        """See :class:`Contender`."""
        await self.close()
        mesh = await self._running.enter_async_context(LocalMesh(self._options))
        client = await self._running.enter_async_context(AsyncClient(mesh.endpoint))
        self._session = await self._running.enter_async_context(client.session())
        await self._session.append_video(self._video)
        seconds = []
        for obj_id, click in enumerate(clicks):
            start = time.perf_counter()
            await self._session.add_prompt(0, obj_id, points=[click])
            seconds.append(time.perf_counter() - start)
        return seconds[0]

    async def turn(self, frames: range) -> list[float]:
        """See :class:`Contender`.

        Frames are encoded ahead, so the interval between two deliveries is not the time of a frame: each
        frame is assigned an equal share of the time from the call to the last delivery.
        """
        async for _ in self._propagate(frames[:1], MaskOptions()):
            pass
        start = time.perf_counter()
        async for _ in self._propagate(frames[1:], MaskOptions()):
            pass
        count = len(frames) - 1
        return [(time.perf_counter() - start) / count] * count

    async def masks(self, frame: int) -> list[Logits]:
        """See :class:`Contender`."""
        found: list[Logits] = []
        options = MaskOptions(MaskFormat.LOW_RES_LOGITS)
        async for result in self._propagate(range(frame, frame + 1), options):
            for obj in result.objects.values():
                assert isinstance(obj.mask, LowResLogits)
                found.append(obj.mask.values)
        return found

    async def close(self) -> None:
        """See :class:`Contender`."""
        await self._running.aclose()

    def _propagate(self, frames: range, options: MaskOptions) -> AsyncGenerator[FrameMasks, None]:
        assert self._session is not None
        return self._session.propagate(
            start_frame_index=frames.start, max_frames=len(frames), mask_options=options
        )
