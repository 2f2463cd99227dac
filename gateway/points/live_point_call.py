"""The points of a live stream at a tracker: they come and go while frames are followed."""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass

import grpc

from gateway.backends.trackers import Trackers
from gateway.frames.frame_ring import KEPT_FRAMES
from gateway.points.point_call import PAUSE_SECONDS, Encode, PointCall, PointResult
from maskmesh.errors import MaskmeshError, ResourceExhausted, Unavailable
from maskmesh.internal.v1 import points_pb2
from maskmesh.v1 import points_pb2 as public_pb2


@dataclass(slots=True)
class _Followed:
    """A point where it was chosen or last seen."""

    place: public_pb2.PointQuery
    since: int
    """The last frame that was sent before the point was."""
    is_hidden: bool = False


class LivePointCall(PointCall):
    """One call whose points come and go.

    The frames on which points were chosen are soon gone.  When the tracker is lost, points in sight are
    chosen again where they were last seen; points out of sight are lost.
    """

    def __init__(self, trackers: Trackers, session_id: str, *, encode: Encode) -> None:
        super().__init__(trackers, session_id, {}, last=None, encode=encode, timeout=None)
        self._points: dict[int, _Followed] = {}
        self._removed: set[int] = set()
        """Points that the tracker follows until the next frame."""
        self._sent: deque[int] = deque(maxlen=KEPT_FRAMES)
        """The last frames that were sent."""
        self._room: asyncio.Future[bool] | None = None
        self._ending: MaskmeshError | None = None
        self.lost: list[int] = []
        """Points that were lost."""

    @property
    def point_ids(self) -> Collection[int]:
        """The numbers of the points that are followed."""
        return self._points.keys()

    async def add(self, points: Sequence[public_pb2.PointQuery], frames: Sequence[int]) -> None:
        """Follow points that were chosen on the first of ``frames`` to the last one, which was sent last.

        Raises ResourceExhausted if the tracker has no room for them, and the error that ended the call.
        """
        refs = [(index, await self._encode(index)) for index in frames]
        await self._take_room(len(self._points) + len(points))
        async with self._writing:
            since = frames[-1]
            self._points |= {point.point_id: _Followed(point, since) for point in points}
            purpose = points_pb2.FRAME_PURPOSE_CATCH_UP if self._sent else points_pb2.FRAME_PURPOSE_REPLAY
            self._sent.extend(index for index in frames if index not in self._sent)
            self._queries = {frames[0]: points}
            try:
                for index, ref in refs:
                    await self._write(index, ref, purpose)
            except (MaskmeshError, grpc.RpcError):
                pass  # results() opens the stream again, which chooses the points again
            self._queries = {}

    async def remove(self, point_ids: Collection[int]) -> None:
        """Stop following points, from the next frame on.  Raises the error that ended the call."""
        for point_id in point_ids:
            del self._points[point_id]
        self._removed.update(point_ids)
        await self._take_room(len(self._points))

    async def results(self) -> AsyncIterator[PointResult]:
        """Yield results in order, without removed points.  Raises the error that ended the stream."""
        async for result in super().results():
            frame = result.frame
            index = frame.frame_index
            found = [p for p in frame.points if self._is_followed(p.point_id, index)]
            del frame.points[:]
            frame.points.extend(found)
            for point in found:
                followed = self._points[point.point_id]
                followed.is_hidden = not point.visible
                if point.visible:
                    followed.place = public_pb2.PointQuery(
                        point_id=point.point_id, frame_index=index, x=point.x, y=point.y
                    )
            yield result

    def end(self, error: MaskmeshError) -> None:
        """Fail what waits for the tracker; all points are lost."""
        self._ending = error
        self.lost += self._points
        self._points = {}
        if self._room is not None and not self._room.done():
            self._room.set_exception(error)

    def _is_followed(self, point_id: int, frame_index: int) -> bool:
        followed = self._points.get(point_id)
        return followed is not None and frame_index > followed.since

    def _on_room(self, is_taken: bool) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(is_taken)

    async def _take_room(self, count: int) -> None:
        """Change the number of points that count against the tracker's limit.

        Raises ResourceExhausted if there is no room for more, and the error that ended the call.
        """
        while self._ending is None:
            self._room = asyncio.get_running_loop().create_future()
            try:
                async with self._writing:
                    room = points_pb2.PointRoom(points=count)
                    await self._stream.write(points_pb2.TrackPointsRequest(room=room))
                if not await self._room:
                    raise ResourceExhausted(f"the tracker has no room for {count} points", resource="points")
                return
            except (Unavailable, grpc.RpcError):
                await asyncio.sleep(PAUSE_SECONDS)  # results() opens the stream again
            finally:
                self._room = None
        raise self._ending

    async def _started(self) -> points_pb2.PointTrackStarted:
        if self._room is not None and not self._room.done():
            self._room.set_exception(Unavailable("the tracker was lost", service="tracker"))
        self._queries = self._chosen_again()
        return await super()._started()

    def _chosen_again(self) -> dict[int, list[public_pb2.PointQuery]]:
        """The points in sight, by the frame on which they were last seen; others are lost."""
        self.lost += [point_id for point_id, point in self._points.items() if point.is_hidden]
        self._points = {i: point for i, point in self._points.items() if not point.is_hidden}
        self._removed = set()
        queries: dict[int, list[public_pb2.PointQuery]] = defaultdict(list)
        for point in self._points.values():
            queries[point.place.frame_index].append(point.place)
        return dict(queries)

    async def _open(self, started: points_pb2.PointTrackStarted) -> None:
        """Send the frames from the first one with a point on, and those without a result."""
        first = min(self._queries, default=None)
        if first is not None:
            for index in list(self._sent):
                if index >= first and index not in self._unanswered:
                    await self._write(index, await self._encode(index), points_pb2.FRAME_PURPOSE_REPLAY)
        await self._send_unanswered()
        self._queries = {}

    def _sending(self, frame_index: int) -> None:
        self._sent.append(frame_index)

    def _take_removed(self) -> Collection[int]:
        removed, self._removed = self._removed, set()
        return removed
