"""One frame of a live stream on its way through the services that follow points."""

import asyncio
from dataclasses import dataclass, field

from gateway.backends.encoders import Encoded
from gateway.points.live_point_call import LivePointCall
from gateway.points.point_call import PointResult
from gateway.streams.frame_trace import FrameTrace


@dataclass(slots=True)
class FollowedFrame:
    """A frame on its way: when it was received, its trace, its embedding, and the result of its points."""

    index: int
    received_ns: int
    trace: FrameTrace
    result: "asyncio.Future[PointResult | None]" = field(default_factory=asyncio.Future)
    encoding: "asyncio.Task[Encoded] | None" = None
    call: LivePointCall | None = None
    """The call to which the frame was sent."""

    def answer(self, result: PointResult | None) -> None:
        """Set the result, unless it is set; None means that no points are followed to the frame."""
        if not self.result.done():
            self.result.set_result(result)
