"""The points of a live stream, and their motion."""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import grpc

from gateway.backends.encoders import Encoded, EncodeOptions
from gateway.frames.frame_ring import KEPT_FRAMES, FrameRing
from gateway.points.live_point_call import LivePointCall
from gateway.points.motion import PointMotion
from gateway.points.motion_windows import MotionSettings, MotionWindow
from gateway.points.point_call import PointResult
from gateway.points.point_tracking import PointCalls
from gateway.points.queries import check_count, points_of
from gateway.sessions.frame_embeddings import encode_read_frame, read_frame
from gateway.sessions.session import GatewaySession
from gateway.streams.frame_trace import FrameTrace
from maskmesh import wire
from maskmesh.aio import TaskSet
from maskmesh.errors import InvalidRequest, MaskmeshError
from maskmesh.types import EmbeddingRef
from maskmesh.v1 import motion_pb2, points_pb2, segmentation_pb2

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Frame:
    """A frame on its way: its embedding, its time in seconds, and the result of its points."""

    encoding: "asyncio.Task[Encoded]"
    time: float
    result: "asyncio.Future[PointResult | None]"

    def answer(self, result: PointResult | None) -> None:
        """Set the result, unless it is set; None means that no points are followed to the frame."""
        if not self.result.done():
            self.result.set_result(result)


class LivePoints:
    """Follows the points of one stream beside its objects.

    While no points are followed, nothing is encoded for them and no tracker is asked.  If no tracker follows
    points any longer, they are lost, and the stream goes on without them.
    """

    def __init__(self, session: GatewaySession, ring: FrameRing, calls: PointCalls) -> None:
        self._session = session
        self._ring = ring
        self._calls = calls
        self._options = EncodeOptions(interactive=False, tenant=session.caller.tenant)
        self._call: LivePointCall | None = None
        self._motion: PointMotion | None = None
        self._frames: dict[int, _Frame] = {}
        self._sent: deque[int] = deque(maxlen=KEPT_FRAMES)
        """The last frames that the tracker of the objects got."""
        self._tasks = TaskSet(self._fail)
        self._window_task: asyncio.Task[None] | None = None
        self._windows: list[motion_pb2.MotionWindow] = []
        self._lost: list[int] = []
        self._first_time: float | None = None
        self.num_dropped_windows = 0
        """Windows that were complete while the one before was computed."""
        self.last: points_pb2.FramePoints | None = None
        """The points on the last frame with a result."""

    async def start(self, motion: MotionSettings | None) -> None:
        """Compute the motion of the points, if there are settings for it.  Raises InvalidRequest."""
        if motion is None:
            return
        self._motion = PointMotion(motion, self._calls.router.trackers, self._session.caller.tenant)
        if motion.tokens:
            await self._calls.model()
            call = self._new_call()
            try:
                await call.open()
            finally:
                await call.close()
            self._motion.check_tokenizer(call.tokenizer_points, field="config.motion.tokens")

    async def add(
        self, message: segmentation_pb2.StreamPoints, frame_index: int
    ) -> segmentation_pb2.StreamPointsAdded:
        """Follow points from a frame on.  Raises MaskmeshError."""
        request = points_pb2.TrackPointsRequest(points=message.points, grids=message.grids)
        _set_frame(request.points, "points", frame_index)
        _set_frame(request.grids, "grids", frame_index)
        model = await self._calls.model()
        queries = await points_of(request, self._session, self._calls.router, None)
        points = queries[frame_index]
        followed = () if self._call is None else self._call.point_ids
        for point in points:
            if point.point_id in followed:
                raise InvalidRequest(f"the point {point.point_id} is followed already", field="points")
        check_count(len(points) + len(followed))
        call = self._call if followed else await self._open()
        assert call is not None, "points are followed by a call"
        frames = [frame_index, *(index for index in self._sent if index > frame_index)]
        await call.add(points, frames)
        return segmentation_pb2.StreamPointsAdded(
            request_id=message.request_id, points=points, model=wire.model_info_to_proto(model)
        )

    async def remove(
        self, message: segmentation_pb2.StreamPointsRemoval
    ) -> segmentation_pb2.StreamPointsRemoved:
        """Stop following points.  Raises InvalidRequest if one is not followed."""
        call = self._call
        followed = set(() if call is None else call.point_ids)
        removed = set(message.point_ids) or followed
        if unknown := removed - followed:
            raise InvalidRequest(f"the point {min(unknown)} is not followed", field="point_ids")
        if call is not None and removed == followed:
            self._retire(call)
            self.last = None
        elif call is not None:
            await call.remove(removed)
        return segmentation_pb2.StreamPointsRemoved(
            request_id=message.request_id, point_ids=sorted(followed - removed)
        )

    def begin(self, frame_index: int, received_ns: int, trace: FrameTrace) -> None:
        """Begin to encode a frame for the points, if there are any."""
        if self._first_time is None:
            self._first_time = received_ns / 1e9
        if self._call is None or not self._call.point_ids:
            return
        task = trace.task(self._encode_frame(frame_index, self._motion))
        self._tasks.hold(task)
        time = received_ns / 1e9 - self._first_time
        self._frames[frame_index] = _Frame(task, time, asyncio.get_running_loop().create_future())

    async def send(self, frame_index: int, trace: FrameTrace) -> None:
        """Send a frame to the tracker of the points; that of the objects has got it."""
        self._sent.append(frame_index)
        frame, call = self._frames.get(frame_index), self._call
        if frame is None:
            if call is None or not call.point_ids:
                return
            # The first points were chosen after the frame was received.
            self.begin(frame_index, trace.start_ns, trace)
            frame = self._frames[frame_index]
        if call is None or frame.result.done():
            frame.answer(None)
            return
        try:
            encoded = await frame.encoding
        except MaskmeshError as error:
            self._end(call, error)
        else:
            await call.send(frame_index, encoded.ref, trace.traceparent)

    async def wait(self, frame_index: int) -> None:
        """Wait until a frame's points are there."""
        if (frame := self._frames.get(frame_index)) is not None:
            await frame.result

    def deliver(self, frame_index: int, trace: FrameTrace) -> None:
        """Record the points of a frame that is delivered."""
        frame = self._frames.pop(frame_index, None)
        result = None if frame is None else frame.result.result()
        if result is None:
            self.last = None
            return
        self.last = result.frame
        self.last.trace_id = trace.trace_id
        trace.followed_points(result, wire.stage_seconds_from_proto(result.frame.stage_times))

    def drop(self, frame_index: int) -> None:
        """A frame cannot be used."""
        if (frame := self._frames.pop(frame_index, None)) is not None:
            frame.encoding.cancel()

    async def finish(self) -> None:
        """Wait for the window that is computed, before the last result."""
        if self._window_task is not None:
            await asyncio.wait({self._window_task})

    def fill(self, result: segmentation_pb2.StreamResult) -> None:
        """Add the points of the last frame with a result, and what has happened since the last call."""
        if self.last is not None:
            result.points.CopyFrom(self.last)
        result.motion_windows.extend(self._windows)
        self._windows = []
        if self._call is not None:
            self._lost += self._call.lost
            self._call.lost = []
        result.lost_point_ids.extend(self._lost)
        self._lost = []

    async def close(self) -> None:
        """Close the stream to the tracker and wait for the tasks."""
        if self._call is not None:
            self._call.cancel()
        await self._tasks.close()
        if self._call is not None:
            await self._call.close()

    def _new_call(self) -> LivePointCall:
        return LivePointCall(self._calls.router.trackers, self._session.session_id, encode=self._encode)

    async def _open(self) -> LivePointCall:
        """Open a call in place of one whose points were lost, if there is one."""
        if self._call is not None:
            self._retire(self._call)
        self._call = call = self._new_call()
        try:
            await call.open()
        except BaseException:
            self._call = None
            await call.close()
            raise
        self._tasks.spawn(self._receive(call))
        return call

    def _retire(self, call: LivePointCall) -> None:
        """End a call without points."""
        self._call = None
        self._lost += call.lost
        call.cancel()
        for frame in self._frames.values():
            frame.answer(None)

    async def _receive(self, call: LivePointCall) -> None:
        try:
            async for result in call.results():
                frame = self._frames.get(result.frame.frame_index)
                if frame is None:
                    continue
                if self._motion is not None:
                    await self._advance(self._motion, result, frame.time)
                frame.answer(result)
            self._end(call, MaskmeshError("the tracker ended the stream of the points"))
        except (MaskmeshError, grpc.RpcError) as error:
            self._end(call, error)

    def _fail(self, error: BaseException) -> None:
        """A task has failed in a way that is not expected."""
        logger.error("session %s: its points fail", self._session.session_id, exc_info=error)
        if self._call is not None:
            self._end(self._call, error)

    def _end(self, call: LivePointCall, error: BaseException) -> None:
        """Go on without points."""
        if self._call is not call:
            return
        if not isinstance(error, MaskmeshError):
            error = MaskmeshError(str(error))
        logger.warning("session %s: its points are lost: %s", self._session.session_id, error.message)
        call.end(error)
        self._retire(call)

    async def _advance(self, motion: PointMotion, result: PointResult, time: float) -> None:
        """Add a frame to the windows.  Only the tokenizer takes long: a window that finds it busy is
        dropped."""
        window = await motion.collect(result.frame, time)
        if window is None:
            return
        if not motion.has_tokens:
            message, _ = await motion.evaluate(window)
            self._windows.append(message)
        elif self._window_task is not None and not self._window_task.done():
            self.num_dropped_windows += 1
        else:
            self._window_task = asyncio.create_task(self._evaluate(motion, window))
            self._tasks.hold(self._window_task)

    async def _evaluate(self, motion: PointMotion, window: MotionWindow) -> None:
        try:
            message, _ = await motion.evaluate(window)
        except MaskmeshError as error:
            logger.warning("session %s: a window is dropped: %s", self._session.session_id, error.message)
            self.num_dropped_windows += 1
        else:
            self._windows.append(message)

    async def _encode_frame(self, frame_index: int, motion: PointMotion | None) -> Encoded:
        frame = await read_frame(frame_index, self._session.read)
        if motion is not None:
            await motion.read(frame_index, frame.image)
        return await encode_read_frame(self._calls.encoders, frame_index, frame, self._options)

    async def _encode(self, frame_index: int) -> EmbeddingRef:
        return (await self._encode_frame(frame_index, None)).ref


def _set_frame(
    chosen: Iterable[points_pb2.PointQuery | points_pb2.PointGrid], name: str, frame_index: int
) -> None:
    """Set the frame of points or grids.  Raises InvalidRequest if it is set."""
    for number, one in enumerate(chosen):
        if one.frame_index:
            raise InvalidRequest("it must be 0: sequence is the frame", field=f"{name}[{number}].frame_index")
        one.frame_index = frame_index
