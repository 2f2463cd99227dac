"""The totals of all frames of a stream, on the span of the call that streams."""

import heapq
from typing import NamedTuple

from opentelemetry import trace
from opentelemetry.trace import Span

from gateway.streams.frame_trace import FrameTrace
from maskmesh import telemetry
from maskmesh.telemetry import WorkSummary

NUM_SLOWEST = 3

# A collector keeps the traces of so many first frames of each propagation, which are often slower.
NUM_FIRST = 3


class _Slow(NamedTuple):
    duration_ns: int
    trace_id: str


class StreamTrace:
    """Collects what the frames of one stream cost.

    The traces of the frames link to the call.  The call has the id that they share and the trace ids of the
    slowest, because a back end finds no trace by its links.
    """

    def __init__(self, propagation_id: str) -> None:
        self._call: Span = trace.get_current_span()
        self._call.set_attribute(telemetry.PROPAGATION_ID, propagation_id)
        self._work = WorkSummary()
        self._num_begun = self._num_delivered = 0
        self._slowest: list[_Slow] = []

    def begin_frame(self) -> bool:
        """Count a frame that begins; returns whether it is one of the first."""
        self._num_begun += 1
        return self._num_begun <= NUM_FIRST

    def add(self, frame: FrameTrace, duration_ns: int) -> None:
        """Add a frame that was delivered."""
        self._num_delivered += 1
        self._work.add(frame.work)
        heapq.heappush(self._slowest, _Slow(duration_ns, frame.trace_id))
        if len(self._slowest) > NUM_SLOWEST:
            heapq.heappop(self._slowest)

    def end(self) -> None:
        """Write the totals to the span of the call."""
        slowest = [slow.trace_id for slow in sorted(self._slowest, reverse=True)]
        self._call.set_attributes(
            {
                telemetry.FRAME_COUNT: self._num_delivered,
                telemetry.SLOWEST_TRACES: ",".join(slowest),
                **self._work.attributes(flags=False),
            }
        )
