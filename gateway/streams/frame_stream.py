"""What every stream of frames has: work beside it, a call to the tracker, one way out, and an orderly end."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

from gateway.backends.pins import Pins
from gateway.backends.track_call import TrackCall
from gateway.sessions.session import GatewaySession, OpenStream
from gateway.streams.frame_trace import FrameTrace
from maskmesh.errors import MaskmeshError

T = TypeVar("T")


class FrameStream(OpenStream, Generic[T]):
    """Holds what is under way for one stream; ``T`` is what goes out of it."""

    def __init__(self, session: GatewaySession, call: TrackCall, pins: Pins) -> None:
        self._session = session
        self._call = call
        self._pins = pins
        self._outgoing: asyncio.Queue[T | BaseException | None] = asyncio.Queue()
        """Ends with None, or with an error to raise."""
        self._traces: dict[int, FrameTrace] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def stop(self, error: MaskmeshError) -> None:
        """See OpenStream."""
        self._stop()
        self._outgoing.put_nowait(error)

    async def _end(self) -> None:
        """Stop, wait for what cannot be stopped at once, and let go of everything."""
        self.is_ending = True
        self._stop()
        await self._call.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for trace in self._traces.values():
            trace.abandoned()
        if self._session.holds(self):
            self._pins.release_all()

    def _stop(self) -> None:
        self._call.cancel()
        for task in self._tasks:
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run work beside the others; its failure is the stream's."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._settled)

    def _settled(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._outgoing.put_nowait(error)
