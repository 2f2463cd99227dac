"""The points of a live stream, and their motion."""

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

import grpc

from gateway.backends.encoders import Encoded, EncodeOptions
from gateway.frames.frame_ring import KEPT_FRAMES
from gateway.live.followed_frame import FollowedFrame
from gateway.live.live_motion import LiveMotion
from gateway.points.live_point_call import LivePointCall
from gateway.points.motion_windows import MotionSettings
from gateway.points.point_tracking import PointCalls
from gateway.points.queries import check_count, points_of_stream
from gateway.sessions.frame_embeddings import encode_read_frame, read_frame
from gateway.sessions.session import GatewaySession
from gateway.streams.frame_trace import FrameTrace
from maskmesh import wire
from maskmesh.aio import TaskSet
from maskmesh.errors import InternalError, InvalidRequest, MaskmeshError, Unavailable
from maskmesh.types import EmbeddingRef
from maskmesh.v1 import points_pb2, segmentation_pb2

logger = logging.getLogger(__name__)

# Commands that wait; no more messages of the stream are handled while there are more.
MAX_QUEUED_COMMANDS = 64


PointsMessage: TypeAlias = segmentation_pb2.StreamPoints | segmentation_pb2.StreamPointsRemoval
PointsResponse: TypeAlias = segmentation_pb2.StreamPointsAdded | segmentation_pb2.StreamPointsRemoved
Respond: TypeAlias = Callable[[PointsMessage, PointsResponse | MaskmeshError], None]
"""Sends the response to a command, or its error."""


class LivePoints:
    """Follows the points of one stream beside its objects.

    Frames and commands for points have a queue of their own: a tracker or an encoder of points that is slow
    or lost delays the results of frames, but no click.  While no points are followed, nothing is encoded for
    them and no tracker is asked.  If no tracker follows points any longer, they are lost, and the stream goes
    on without them.
    """

    def __init__(self, session: GatewaySession, calls: PointCalls) -> None:
        self._session = session
        self._calls = calls
        self._options = EncodeOptions(interactive=False, tenant=session.caller.tenant)
        self._queue: asyncio.Queue[FollowedFrame | tuple[PointsMessage, int, Respond]] = asyncio.Queue()
        self._call: LivePointCall | None = None
        self._motion = LiveMotion(session.session_id)
        self._frames: dict[int, FollowedFrame] = {}
        self._sent: deque[int] = deque(maxlen=KEPT_FRAMES)
        """The last frames, also those without points."""
        self._tasks = TaskSet(self._fail)
        self._lost: list[int] = []
        self._serials = itertools.count(1)
        self._is_idle = True
        """Whether no frame and no command is in work."""
        self._places = asyncio.Semaphore(MAX_QUEUED_COMMANDS)
        self.last: points_pb2.FramePoints | None = None
        """The points on the last frame with a result."""

    async def start(self, motion: MotionSettings | None) -> None:
        """Begin, with the motion of the points if there are settings for it.

        Raises InvalidRequest, Unavailable.
        """
        self._tasks.spawn(self._run())
        if motion is not None:
            await self._motion.start(motion, self._session, self._calls)

    @property
    def num_dropped_windows(self) -> int:
        """Number of windows of motion that were not delivered."""
        return self._motion.num_undelivered

    async def carry_out(self, command: PointsMessage, frame_index: int, respond: Respond) -> None:
        """Queue a command behind the frames before it; ``frame_index`` is that of points."""
        await self._places.acquire()
        self._queue.put_nowait((command, frame_index, respond))

    def begin(self, frame_index: int, received_ns: int, trace: FrameTrace) -> None:
        """Begin to encode a frame for the points, if there are any."""
        if self._call is not None and self._call.point_ids:
            frame = self._new_frame(frame_index, received_ns, trace)
            frame.encoding = self._begin_encoding(frame)

    def send(self, frame_index: int, received_ns: int, trace: FrameTrace) -> None:
        """Send a frame to the tracker of the points, after the commands before it."""
        frame = self._frames.get(frame_index)
        has_points = self._call is not None and self._call.point_ids
        if frame is None and not has_points and self._queue.empty() and self._is_idle:
            self._sent.append(frame_index)
            return
        self._queue.put_nowait(frame or self._new_frame(frame_index, received_ns, trace))

    async def wait(self, frame_index: int) -> None:
        """Wait until a frame's points are there."""
        if (frame := self._frames.get(frame_index)) is not None:
            await frame.result

    def deliver(self, frame_index: int, trace: FrameTrace) -> None:
        """Record the points of a frame that is delivered."""
        self._motion.forget(frame_index)
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
        self._motion.forget(frame_index)
        frame = self._frames.pop(frame_index, None)
        if frame is not None and frame.encoding is not None:
            frame.encoding.cancel()

    async def finish(self) -> None:
        """Wait until all commands are carried out, and for the window that is computed."""
        await self._queue.join()
        await self._motion.finish()

    def fill(self, result: segmentation_pb2.StreamResult) -> None:
        """Add the points of the last frame with a result, and what has happened since the last call."""
        if self.last is not None:
            result.points.CopyFrom(self.last)
        result.motion_windows.extend(self._motion.take())
        if self._call is not None:
            self._lost += self._call.take_lost()
        result.lost_point_ids.extend(self._lost)
        self._lost = []

    async def close(self) -> None:
        """Close the stream to the tracker and wait for the tasks."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()
        await self._tasks.close()
        await self._motion.close()
        if call is not None:
            await call.close()

    async def _run(self) -> None:
        """Send frames and carry out commands in their order."""
        while True:
            self._is_idle = self._queue.empty()
            item = await self._queue.get()
            self._is_idle = False
            try:
                if isinstance(item, FollowedFrame):
                    await self._send(item)
                else:
                    await self._carry_out(*item)
            finally:
                self._queue.task_done()

    async def _carry_out(self, command: PointsMessage, frame_index: int, respond: Respond) -> None:
        self._places.release()
        try:
            if isinstance(command, segmentation_pb2.StreamPoints):
                respond(command, await self._add(command, frame_index))
            else:
                respond(command, await self._remove(command))
        except MaskmeshError as error:
            respond(command, error)
        except grpc.RpcError as error:
            respond(command, Unavailable(f"the points cannot be followed: {error}", service="tracker"))
        except Exception as error:
            self._fail(error)
            respond(command, InternalError("the points cannot be followed"))

    async def _add(
        self, message: segmentation_pb2.StreamPoints, frame_index: int
    ) -> segmentation_pb2.StreamPointsAdded:
        model = await self._calls.model()
        points = await points_of_stream(message, frame_index, self._session, self._calls.router)
        followed = () if self._call is None else self._call.point_ids
        for point in points:
            if point.point_id in followed:
                raise InvalidRequest(f"the point {point.point_id} is followed already", field="points")
        check_count(len(points) + len(followed))
        call = self._call if followed else await self._open()
        assert call is not None, "points are followed by a call"
        await call.add(points, [frame_index, *(index for index in self._sent if index > frame_index)])
        return segmentation_pb2.StreamPointsAdded(
            request_id=message.request_id, points=points, model=wire.model_info_to_proto(model)
        )

    async def _remove(
        self, message: segmentation_pb2.StreamPointsRemoval
    ) -> segmentation_pb2.StreamPointsRemoved:
        call = self._call
        followed = set(() if call is None else call.point_ids)
        removed = set(message.point_ids) or followed
        if unknown := removed - followed:
            raise InvalidRequest(f"the point {min(unknown)} is not followed", field="point_ids")
        if call is not None and removed == followed:
            self._retire(call)
        elif call is not None:
            await call.remove(removed)
        return segmentation_pb2.StreamPointsRemoved(
            request_id=message.request_id, point_ids=sorted(followed - removed)
        )

    async def _send(self, frame: FollowedFrame) -> None:
        self._sent.append(frame.index)
        call = self._call
        if call is None or not call.point_ids:
            frame.answer(None)
            return
        frame.call = call
        try:
            encoded = await (frame.encoding or self._begin_encoding(frame))
            await call.send(frame.index, encoded.ref, frame.trace.traceparent)
        except Exception as error:  # the results of frames wait for those of their points
            self._end(call, error)
            frame.answer(None)

    def _new_frame(self, frame_index: int, received_ns: int, trace: FrameTrace) -> FollowedFrame:
        frame = self._frames[frame_index] = FollowedFrame(frame_index, received_ns, trace)
        return frame

    def _begin_encoding(self, frame: FollowedFrame) -> "asyncio.Task[Encoded]":
        task = frame.trace.task(self._encode_frame(frame.index, is_new=True))
        self._tasks.hold(task)
        return task

    async def _open(self) -> LivePointCall:
        """Open a call in place of one whose points were lost, if there is one."""
        if self._call is not None:
            self._retire(self._call)
        trackers, session_id = self._calls.router.trackers, self._session.session_id
        call = LivePointCall(trackers, session_id, encode=self._encode, serials=self._serials)
        try:
            await call.open()
        except BaseException:
            await call.close()
            raise
        self._call = call
        self._tasks.spawn(self._receive(call))
        return call

    def _retire(self, call: LivePointCall) -> None:
        """End a call; its frames have no points."""
        self._call = None
        self._lost += call.take_lost()
        call.cancel()
        for frame in self._frames.values():
            if frame.call is call:
                frame.answer(None)

    async def _receive(self, call: LivePointCall) -> None:
        try:
            async for result in call.results():
                frame = self._frames.get(result.frame.frame_index)
                if self._call is not call:
                    return
                if frame is not None:
                    numbers = call.serials_of(result.frame)
                    await self._motion.add(result.frame, frame.received_ns / 1e9, numbers)
                    frame.answer(result)
            self._end(call, MaskmeshError("the tracker ended the stream of the points"))
        except (MaskmeshError, grpc.RpcError) as error:
            self._end(call, error)
        finally:
            await call.close()

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

    async def _encode_frame(self, frame_index: int, *, is_new: bool) -> Encoded:
        frame = await read_frame(frame_index, self._session.read)
        if is_new:
            await self._motion.read(frame_index, frame.image)
        return await encode_read_frame(self._calls.encoders, frame_index, frame, self._options)

    async def _encode(self, frame_index: int) -> EmbeddingRef:
        return (await self._encode_frame(frame_index, is_new=False)).ref
