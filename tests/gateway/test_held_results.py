"""Results that wait for later ones."""

from gateway.streams.held_results import HeldResults
from gateway.streams.track_call import Result
from maskmesh.internal.v1 import embedding_pb2
from maskmesh.v1 import types_pb2


def result(
    index: int, obj_ids: list[int], *, delay: int, new: list[int] | None = None, gone: list[int] | None = None
) -> Result:
    frame = types_pb2.FrameMasks(
        frame_index=index,
        objects=[types_pb2.ObjectMask(obj_id=obj_id) for obj_id in obj_ids],
        new_obj_ids=new or [],
        gone_obj_ids=gone or [],
        held_back_obj_ids=obj_ids[:1],
    )
    return Result(frame, embedding_pb2.Handling(), embedding_pb2.WorkSummary(), 0, delay)


def indices(results: list[Result]) -> list[int]:
    return [r.frame.frame_index for r in results]


def test_results_without_a_delay_are_ready_at_once() -> None:
    held = HeldResults()
    assert [indices(held.add(result(i, [1], delay=0))) for i in range(3)] == [[0], [1], [2]]
    assert held.flush() == []


def test_objects_that_leave_are_removed_from_results_that_wait() -> None:
    held = HeldResults()
    assert held.add(result(0, [1, 2], new=[1, 2], delay=2)) == []
    assert held.add(result(1, [1, 2], delay=2)) == []
    [first] = held.add(result(2, [2], gone=[1], delay=2))
    assert first.frame.frame_index == 0
    assert [mask.obj_id for mask in first.frame.objects] == [2]
    assert list(first.frame.new_obj_ids) == [2]
    assert not first.frame.held_back_obj_ids
    second, third = held.flush()
    assert [mask.obj_id for mask in second.frame.objects] == [2]
    assert list(third.frame.gone_obj_ids) == [1]


def test_results_are_ready_when_the_delay_ends() -> None:
    """For example because the concept was removed."""
    held = HeldResults()
    for index in range(3):
        assert held.add(result(index, [1], delay=3)) == []
    assert indices(held.add(result(3, [1], delay=0))) == [0, 1, 2, 3]
