"""The motion of the points of a live stream: windows that are late are dropped, never queued."""

import asyncio
import itertools
import logging
from collections.abc import Sequence

import grpc

from gateway.points.live_point_call import LivePointCall
from gateway.points.motion import PointMotion
from gateway.points.motion_windows import MotionSettings, MotionWindow
from gateway.points.point_tracking import PointCalls
from gateway.sessions.session import GatewaySession
from maskmesh.errors import InvalidRequest, MaskmeshError
from maskmesh.types import EmbeddingRef, Image
from maskmesh.v1 import motion_pb2, points_pb2

logger = logging.getLogger(__name__)


class LiveMotion:
    """The windows of one stream; none without :attr:`motion`."""

    def __init__(self, session_id: str) -> None:
        self._session_id = session_id
        self.motion: PointMotion | None = None
        self._ready: list[motion_pb2.MotionWindow] = []
        self._task: asyncio.Task[None] | None = None
        self._first_time: float | None = None
        self._num_dropped = 0

    @property
    def num_undelivered(self) -> int:
        """Number of windows that were dropped, that failed, or that were ready after the last result."""
        return self._num_dropped + len(self._ready)

    async def start(self, settings: MotionSettings, session: GatewaySession, calls: PointCalls) -> None:
        """Compute windows, for which there is a tokenizer if they need one.

        Raises InvalidRequest, Unavailable.
        """
        trackers = calls.router.trackers
        self.motion = PointMotion(settings, trackers, session.caller.tenant)
        if not settings.tokens:
            return
        try:
            await calls.model()
        except InvalidRequest as error:
            raise InvalidRequest(error.message, field="config.motion.tokens") from error
        call = LivePointCall(trackers, session.session_id, encode=_no_frame, serials=itertools.count())
        try:
            await call.open()
        finally:
            await call.close()
        self.motion.check_tokenizer(call.tokenizer_points, field="config.motion.tokens")

    async def add(self, frame: points_pb2.FramePoints, time: float, numbers: Sequence[int]) -> None:
        """Add a frame at a time in seconds, whose points have the serial ``numbers``.

        Only the tokenizer takes long: a window that is complete while it computes another one is dropped.
        """
        if self.motion is None:
            return
        if self._first_time is None:
            self._first_time = time
        window = await self.motion.collect(frame, time - self._first_time, numbers)
        if window is None:
            return
        if not self.motion.has_tokens:
            await self._evaluate(self.motion, window)
        elif self._task is not None and not self._task.done():
            self._num_dropped += 1
        else:
            self._task = asyncio.create_task(self._evaluate(self.motion, window))

    async def read(self, frame_index: int, image: Image) -> None:
        """Keep what windows need of a frame.  Raises InvalidImage."""
        if self.motion is not None:
            await self.motion.read(frame_index, image)

    def forget(self, frame_index: int) -> None:
        """A frame is delivered or dropped."""
        if self.motion is not None:
            self.motion.forget(frame_index)

    def take(self) -> list[motion_pb2.MotionWindow]:
        """The windows that were computed since the last call of this."""
        ready, self._ready = self._ready, []
        return ready

    async def finish(self) -> None:
        """Wait for the window that is computed."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def close(self) -> None:
        """Stop computing."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _evaluate(self, motion: PointMotion, window: MotionWindow) -> None:
        try:
            message, _ = await motion.evaluate(window)
        except (MaskmeshError, grpc.RpcError) as error:
            logger.warning("session %s: a window is dropped: %s", self._session_id, error)
            self._num_dropped += 1
        else:
            self._ready.append(message)


async def _no_frame(frame_index: int) -> EmbeddingRef:
    raise AssertionError("a call without points sends no frame")
