"""What a client remembers of the points of a stream, to follow them again after a break."""

from maskmesh.client.live.followed_points import FollowedPoints
from maskmesh.v1 import points_pb2, segmentation_pb2

P, S = points_pb2, segmentation_pb2


def follow(points: FollowedPoints, request_id: str, sequence: int, **places: tuple[float, float]) -> None:
    message = S.StreamPoints(request_id=request_id, sequence=sequence)
    points.requested(message)
    queries = [P.PointQuery(point_id=int(name[1:]), x=x, y=y) for name, (x, y) in places.items()]
    points.answered(S.StreamPointsAdded(request_id=request_id, points=queries))


def result(
    sequence: int, *, gated: bool = False, lost: tuple[int, ...] = (), **places: tuple[float, float, bool]
) -> S.StreamResult:
    frame = P.FramePoints(
        width=100,
        height=80,
        points=[P.TrackedPoint(point_id=int(n[1:]), x=x, y=y, visible=v) for n, (x, y, v) in places.items()],
    )
    return S.StreamResult(sequence=sequence, points=frame, gated=gated, lost_point_ids=lost)


def restored(points: FollowedPoints) -> dict[int, dict[int, tuple[float, float]]]:
    return {m.sequence: {p.point_id: (p.x, p.y) for p in m.points} for m in points.restored()}


def test_points_are_restored_where_they_were_last_seen() -> None:
    points = FollowedPoints()
    follow(points, "a", 3, p1=(10, 20), p2=(30, 40))
    assert points.update(result(4, p1=(11, 21, True), p2=(31, 41, False))) == ()
    follow(points, "b", 4, p3=(5, 6))
    assert restored(points) == {4: {1: (11, 21), 3: (5, 6)}}
    assert points.update(result(5)) == (2,)


def test_a_point_outside_of_the_frame_is_out_of_sight() -> None:
    points = FollowedPoints()
    follow(points, "a", 3, p1=(10, 20), p2=(99, 40))
    points.update(result(4, p1=(11, 21, True), p2=(100.4, 41, True)))
    assert restored(points) == {4: {1: (11, 21)}}


def test_a_gated_result_does_not_move_points() -> None:
    points = FollowedPoints()
    follow(points, "a", 3, p1=(10, 20))
    points.update(result(4, p1=(11, 21, True)))
    points.update(result(9, gated=True, p1=(11, 21, True)))
    assert restored(points) == {4: {1: (11, 21)}}


def test_a_number_that_is_chosen_again_is_in_sight() -> None:
    points = FollowedPoints()
    follow(points, "a", 3, p1=(10, 20))
    points.update(result(4, p1=(11, 21, False)))
    points.answered(S.StreamPointsRemoved())
    assert restored(points) == {}
    follow(points, "b", 4, p1=(50, 60))
    assert restored(points) == {4: {1: (50, 60)}}


def test_rejected_and_lost_points_are_told_once() -> None:
    points = FollowedPoints()
    follow(points, "a", 3, p1=(10, 20), p2=(30, 40), p3=(1, 1))
    assert points.update(result(4, lost=(3,), p1=(11, 21, True), p2=(31, 41, True))) == (3,)
    [message] = points.restored()
    assert points.was_rejected(S.StreamRejected(request_id=message.request_id))
    assert not points.was_rejected(S.StreamRejected(request_id=message.request_id))
    assert points.update(result(5)) == (1, 2)
    assert points.update(result(6)) == ()
