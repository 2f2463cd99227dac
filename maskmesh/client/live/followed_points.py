"""The points of a live stream as its client knows them, to follow them again after a break."""

import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from maskmesh.points import FramePoints, PointQuery
from maskmesh.v1 import points_pb2, segmentation_pb2


class _Place(NamedTuple):
    """A point on a frame of the stream, in pixels."""

    sequence: int
    x: float
    y: float


class FollowedPoints:
    """The points of a stream, where they were last seen or chosen.

    A call of SegmentStream has its points for itself: the call that continues it after a break has to be told
    where they were.  Points out of sight are lost by that.
    """

    def __init__(self) -> None:
        self._places: dict[int, _Place] = {}
        self._hidden: set[int] = set()
        self._lost: list[int] = []
        self._restoring: dict[str, Sequence[int]] = {}
        """The points of the messages that restore them, by request id."""

    def added(self, points: Iterable[PointQuery], sequence: int) -> None:
        """Points were chosen on a frame."""
        self._places |= {p.point_id: _Place(sequence, p.x, p.y) for p in points}

    def keep(self, point_ids: Collection[int]) -> None:
        """Other points than these were removed."""
        self._places = {i: place for i, place in self._places.items() if i in point_ids}

    def update(self, points: FramePoints | None, sequence: int, lost: Sequence[int]) -> tuple[int, ...]:
        """Take the points of the next result; returns those that were lost, also by a break before it."""
        found = {} if points is None else points.points
        for point_id, point in found.items():
            if point_id not in self._places:
                continue
            if point.visible:
                self._hidden.discard(point_id)
                self._places[point_id] = _Place(sequence, point.x, point.y)
            else:
                self._hidden.add(point_id)
        for point_id in lost:
            self._places.pop(point_id, None)
        all_lost, self._lost = (*self._lost, *lost), []
        return all_lost

    def restored(self) -> list[segmentation_pb2.StreamPoints]:
        """The messages that add the points in sight to another call, one for each frame."""
        self._lose(self._hidden & self._places.keys())
        self._hidden = set()
        by_sequence: dict[int, list[points_pb2.PointQuery]] = defaultdict(list)
        for point_id, place in self._places.items():
            query = points_pb2.PointQuery(point_id=point_id, x=place.x, y=place.y)
            by_sequence[place.sequence].append(query)
        messages = [
            segmentation_pb2.StreamPoints(request_id=uuid.uuid4().hex, sequence=sequence, points=points)
            for sequence, points in sorted(by_sequence.items())
        ]
        self._restoring = {m.request_id: [p.point_id for p in m.points] for m in messages}
        return messages

    def was_rejected(self, request_id: str) -> bool:
        """Whether a rejected command restored points, which are lost then."""
        point_ids = self._restoring.pop(request_id, None)
        if point_ids is None:
            return False
        self._lose(point_ids)
        return True

    def _lose(self, point_ids: Iterable[int]) -> None:
        for point_id in sorted(point_ids):
            if self._places.pop(point_id, None) is not None:
                self._lost.append(point_id)
