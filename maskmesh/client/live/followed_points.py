"""The points of a live stream as its client knows them, to follow them again after a break."""

import logging
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from maskmesh.v1 import points_pb2, segmentation_pb2

logger = logging.getLogger(__name__)


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
        self._sequences: dict[str, int] = {}
        """The frames of the additions that were not answered yet, by request id."""
        self._restoring: dict[str, Sequence[int]] = {}
        """The points of the messages that restore them, by request id."""

    def requested(self, message: segmentation_pb2.StreamPoints) -> None:
        """Points are sent to be added."""
        self._sequences[message.request_id] = message.sequence

    def answered(self, answer: Any) -> None:
        """A command was answered, also if nobody waits for the answer any longer."""
        if isinstance(answer, segmentation_pb2.StreamPointsAdded):
            self._added(answer)
        elif isinstance(answer, segmentation_pb2.StreamPointsRemoved):
            self._keep(set(answer.point_ids))

    def update(self, result: segmentation_pb2.StreamResult) -> tuple[int, ...]:
        """Take the points of the next result; returns those that were lost, also by a break before it.

        A result that the motion gate answers has those of an earlier frame.
        """
        frame = result.points
        for point in frame.points if not result.gated else ():
            if point.point_id not in self._places:
                continue
            if point.visible and 0 <= point.x <= frame.width and 0 <= point.y <= frame.height:
                self._hidden.discard(point.point_id)
                self._places[point.point_id] = _Place(result.sequence, point.x, point.y)
            else:
                self._hidden.add(point.point_id)
        self._keep(self._places.keys() - set(result.lost_point_ids))
        lost, self._lost = (*self._lost, *result.lost_point_ids), []
        return lost

    def restored(self) -> list[segmentation_pb2.StreamPoints]:
        """The messages that add the points in sight to another call, one for each frame."""
        self._lose(self._hidden)
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

    def was_rejected(self, rejected: segmentation_pb2.StreamRejected) -> bool:
        """Whether a rejected command restored points, which are lost then."""
        self._sequences.pop(rejected.request_id, None)
        point_ids = self._restoring.pop(rejected.request_id, None)
        if point_ids is None:
            return False
        logger.warning("%d points cannot be followed again: %s", len(point_ids), rejected.message)
        self._lose(point_ids)
        return True

    def _added(self, answer: segmentation_pb2.StreamPointsAdded) -> None:
        self._restoring.pop(answer.request_id, None)
        sequence = self._sequences.pop(answer.request_id, None)
        if sequence is not None:
            self._places |= {p.point_id: _Place(sequence, p.x, p.y) for p in answer.points}
            self._hidden.difference_update(p.point_id for p in answer.points)

    def _keep(self, point_ids: Collection[int]) -> None:
        self._places = {i: place for i, place in self._places.items() if i in point_ids}
        self._hidden &= self._places.keys()

    def _lose(self, point_ids: Iterable[int]) -> None:
        lost = sorted(point_id for point_id in point_ids if point_id in self._places)
        self._lost += lost
        self._keep(self._places.keys() - set(lost))
