"""The frames of a live stream that the motion gate answers with the masks of the last encoded frame."""

from collections import defaultdict
from dataclasses import dataclass

from gateway.streams.frame_trace import FrameTrace
from gateway.streams.track_call import Result
from maskmesh.v1 import types_pb2


@dataclass(frozen=True, slots=True)
class GatedFrame:
    """One frame, the index of the frame that it equals, and its trace."""

    sequence: int
    frame_index: int
    received_ns: int
    ready_ns: int
    """When it was known that nothing has moved."""
    trace: FrameTrace


@dataclass(frozen=True, slots=True)
class GatedResult:
    """The result of a gated frame: the masks of another one."""

    gated: GatedFrame
    masks: types_pb2.FrameMasks

    def frame(self) -> types_pb2.FrameMasks:
        """The frame for the client."""
        frame = types_pb2.FrameMasks()
        frame.CopyFrom(self.masks)
        for name in ("stage_times", "new_obj_ids", "gone_obj_ids", "conditioning"):
            frame.ClearField(name)
        return self.gated.trace.complete(frame)


class GatedFrames:
    """Gated frames that wait for the result of the frame that they equal, or for their delivery."""

    def __init__(self) -> None:
        self._open: dict[int, FrameTrace] = {}  # of the frames that are not delivered, by sequence
        self._waiting: dict[int, list[GatedFrame]] = defaultdict(list)
        self._last: types_pb2.FrameMasks | None = None

    def __len__(self) -> int:
        """The number of frames that wait."""
        return sum(len(frames) for frames in self._waiting.values())

    def add(self, gated: GatedFrame) -> GatedResult | None:
        """Add a frame; returns its result if the frame that it equals has one."""
        self._open[gated.sequence] = gated.trace
        if self._last is not None and self._last.frame_index == gated.frame_index:
            return GatedResult(gated, self._last)
        self._waiting[gated.frame_index].append(gated)
        return None

    def answer(self, result: Result) -> list[GatedResult]:
        """The results of the frames that waited for this one; later ones get its masks at once."""
        self._last = types_pb2.FrameMasks()
        self._last.CopyFrom(result.frame)
        return [GatedResult(gated, self._last) for gated in self.drop(result.frame.frame_index)]

    def abandon(self) -> None:
        """End the traces of the frames that are not delivered, because the stream ends."""
        for trace in self._open.values():
            trace.abandoned()

    def drop(self, frame_index: int) -> list[GatedFrame]:
        """Remove the frames that wait for a frame."""
        return self._waiting.pop(frame_index, [])

    def deliver(self, gated: GatedFrame) -> FrameTrace:
        """Remove a frame whose result was delivered, or which was rejected; returns its trace."""
        return self._open.pop(gated.sequence)
