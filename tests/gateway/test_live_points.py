"""The points of a live stream when something fails that nobody expects."""

from types import SimpleNamespace
from typing import Any

from gateway.live.live_points import LivePoints, PointsMessage, PointsResponse
from maskmesh.errors import InternalError, MaskmeshError
from maskmesh.v1 import segmentation_pb2


async def test_an_unexpected_error_rejects_the_command_and_frames_go_on() -> None:
    async def broken() -> None:
        raise ValueError("a fault of the code")

    session: Any = SimpleNamespace(session_id="s", caller=SimpleNamespace(tenant=""))
    calls: Any = SimpleNamespace(model=broken)
    trace: Any = SimpleNamespace()
    answers: list[PointsResponse | MaskmeshError] = []

    def respond(command: PointsMessage, outcome: PointsResponse | MaskmeshError) -> None:
        answers.append(outcome)

    points = LivePoints(session, calls)
    await points.start(None)
    points.send(0, 1, trace)
    await points.carry_out(segmentation_pb2.StreamPoints(request_id="a"), 0, respond)
    points.send(1, 2, trace)
    await points.wait(1)
    points.deliver(1, trace)
    await points.carry_out(segmentation_pb2.StreamPointsRemoval(request_id="b"), 0, respond)
    await points.finish()
    await points.close()
    assert isinstance(answers[0], InternalError)
    assert isinstance(answers[1], segmentation_pb2.StreamPointsRemoved)
    assert points.last is None
