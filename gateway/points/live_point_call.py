"""The points of a live stream at a tracker: they come and go while frames are followed."""

import asyncio
import sys
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import grpc

from gateway.backends.trackers import Trackers
from gateway.frames.frame_ring import KEPT_FRAMES
from gateway.points.point_call import PAUSE_SECONDS, Encode, PointCall, PointResult
from maskmesh.errors import FrameOutOfMemory, MaskmeshError, ResourceExhausted, Unavailable
from maskmesh.internal.v1 import points_pb2
from maskmesh.rpc.status import translate_rpc_errors
from maskmesh.types import EmbeddingRef
from maskmesh.v1 import points_pb2 as public_pb2


@dataclass(slots=True)
class _Followed:
    """A point where it was chosen or last seen."""

    place: public_pb2.PointQuery
    serial: int
    """A number that no other point of the stream has, or had."""
    since: int
    """The last frame that was sent before the point was."""
    is_hidden: bool = False


class LivePointCall(PointCall):
    """One call whose points come and go.

    The frames on which points were chosen are soon gone.  When the tracker is lost, points in sight are
    chosen again where they were last seen; points out of sight are lost.
    """

    def __init__(
        self, trackers: Trackers, session_id: str, *, encode: Encode, serials: Iterator[int]
    ) -> None:
        """``serials`` numbers the points."""
        super().__init__(trackers, session_id, {}, last=None, encode=encode, timeout=None)
        self._serials = serials
        self._points: dict[int, _Followed] = {}
        self._removed: set[int] = set()
        """Points that the tracker follows until the next frame."""
        self._sent: deque[int] = deque(maxlen=KEPT_FRAMES)
        """The last frames that were sent, in order."""
        self._has_frames = False
        """Whether a frame was sent since the stream was opened."""
        self._room: tuple[int, asyncio.Future[bool]] | None = None
        self._ending: MaskmeshError | None = None
        self._lost: list[int] = []

    @property
    def point_ids(self) -> Collection[int]:
        """The numbers of the points that are followed."""
        return self._points.keys()

    def serials_of(self, frame: public_pb2.FramePoints) -> list[int]:
        """The serial numbers of the points of a result."""
        return [self._points[point.point_id].serial for point in frame.points]

    async def add(self, points: Sequence[public_pb2.PointQuery], frames: Sequence[int]) -> None:
        """Follow points that were chosen on the first of ``frames`` to the last one, which was sent last.

        Raises ResourceExhausted if the tracker has no room for them, and the error that ended the call.
        """
        refs = await asyncio.gather(*map(self._encode, frames))
        await self._take_room(len(points))
        async with self._writing:
            since = frames[-1]
            for point in points:
                self._points[point.point_id] = _Followed(point, next(self._serials), since)
            purpose = points_pb2.FRAME_PURPOSE_REPLAY
            if self._has_frames:
                purpose = points_pb2.FRAME_PURPOSE_CATCH_UP
            self._sent = deque(sorted({*self._sent, *frames}), maxlen=KEPT_FRAMES)
            self._queries = {frames[0]: points}
            try:
                for index, ref in zip(frames, refs, strict=True):
                    await self._write(index, ref, purpose)
            except (MaskmeshError, grpc.RpcError):
                pass  # results() opens the stream again, which chooses the points again
            self._queries = {}

    async def remove(self, point_ids: Collection[int]) -> None:
        """Stop following points, from the next frame on.  Raises the error that ended the call."""
        for point_id in point_ids:
            self._points.pop(point_id, None)  # it may have been lost
        self._removed.update(point_ids)
        await self._take_room(0)

    async def results(self) -> AsyncIterator[PointResult]:
        """Yield results in order, without removed points.  Raises the error that ended the stream."""
        async for result in super().results():
            frame = result.frame
            found = [p for p in frame.points if self._is_followed(p.point_id, frame.frame_index)]
            del frame.points[:]
            frame.points.extend(found)
            for point in found:
                self._see(point, frame)
            yield result

    def end(self, error: MaskmeshError) -> None:
        """Fail what waits for the tracker; all points are lost."""
        self._ending = error
        self._lose(list(self._points))
        if self._room is not None and not self._room[1].done():
            self._room[1].set_exception(error)
        self.cancel()

    def take_lost(self) -> list[int]:
        """The points that were lost since the last time."""
        lost, self._lost = self._lost, []
        return lost

    def _lose(self, point_ids: Iterable[int]) -> None:
        for point_id in point_ids:
            if self._points.pop(point_id, None) is not None:
                self._lost.append(point_id)

    def _see(self, point: public_pb2.TrackedPoint, frame: public_pb2.FramePoints) -> None:
        """Remember where a point is.  A point outside of the frame cannot be chosen again."""
        followed = self._points[point.point_id]
        is_inside = 0 <= point.x <= frame.width and 0 <= point.y <= frame.height
        followed.is_hidden = not (point.visible and is_inside)
        if not followed.is_hidden:
            followed.place = public_pb2.PointQuery(
                point_id=point.point_id, frame_index=frame.frame_index, x=point.x, y=point.y
            )

    def _is_followed(self, point_id: int, frame_index: int) -> bool:
        followed = self._points.get(point_id)
        return followed is not None and frame_index > followed.since

    def _on_room(self, answer: points_pb2.PointRoomTaken) -> None:
        if self._room is not None and self._room[0] == answer.points and not self._room[1].done():
            self._room[1].set_result(answer.is_taken)

    async def _take_room(self, more: int) -> None:
        """Tell the tracker how many points there are, and how many more there will be.

        Raises ResourceExhausted if there is no room for them, and the error that ended the call.
        """
        while self._ending is None:
            count = len(self._points) + more
            self._room = (count, asyncio.get_running_loop().create_future())
            try:
                async with self._writing:
                    room = points_pb2.PointRoom(points=count)
                    await self._stream.write(points_pb2.TrackPointsRequest(room=room))
                if not await self._room[1]:
                    raise ResourceExhausted(f"the tracker has no room for {count} points", resource="points")
                return
            except (Unavailable, grpc.RpcError):
                await asyncio.sleep(PAUSE_SECONDS)  # results() opens the stream again
            finally:
                self._room = None
        raise self._ending

    async def _started(self) -> points_pb2.PointTrackStarted:
        if self._room is not None and not self._room[1].done():
            self._room[1].set_exception(Unavailable("the tracker was lost", service="tracker"))
        self._has_frames = False
        self._lose([point_id for point_id, point in self._points.items() if point.is_hidden])
        self._removed = set()
        queries: dict[int, list[public_pb2.PointQuery]] = defaultdict(list)
        for point in self._points.values():
            queries[point.place.frame_index].append(point.place)
        self._queries = dict(queries)
        return await super()._started()

    async def _open(self, started: points_pb2.PointTrackStarted) -> None:
        """Send the frames from the first one with a point on, and those without a result.

        Points whose frame is gone are lost.
        """
        first = min(self._queries, default=sys.maxsize)
        replayed = set(self._unanswered)
        with translate_rpc_errors():
            for index in list(self._sent):
                if index < first or index in self._unanswered:
                    continue
                try:
                    ref = await self._encode(index)
                except FrameOutOfMemory:
                    continue
                await self._write(index, ref, points_pb2.FRAME_PURPOSE_REPLAY)
                replayed.add(index)
            await self._send_unanswered()
        for index in self._queries.keys() - replayed:
            self._lose([point.point_id for point in self._queries[index]])
        self._queries = {}

    def _sending(self, frame_index: int) -> None:
        self._sent.append(frame_index)

    async def _write(
        self, frame_index: int, ref: EmbeddingRef, purpose: points_pb2.FramePurpose, traceparent: str = ""
    ) -> None:
        self._has_frames = True
        await super()._write(frame_index, ref, purpose, traceparent)

    def _take_removed(self) -> Collection[int]:
        removed, self._removed = self._removed, set()
        return removed
