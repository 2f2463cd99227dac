"""The responses of a live stream: results with the windows that they complete, rejections, the summary."""

import time
from dataclasses import dataclass

from gateway.erase.erase_view import EraseView
from gateway.frames.frame_ring import FrameRing
from gateway.live.inbox import Inbox
from gateway.live.live_points import LivePoints
from gateway.points.motion_windows import MotionSettings
from gateway.sessions.resume_point import ResumePoint
from maskmesh import wire
from maskmesh.errors import MaskmeshError
from maskmesh.masks import MaskOptions
from maskmesh.records.budget import Budget, WindowRecord
from maskmesh.records.summary import RunStatistics, StreamSummary
from maskmesh.records.window_timer import WindowTimer
from maskmesh.v1 import erase_pb2, error_reason_pb2, segmentation_pb2, types_pb2

Response = segmentation_pb2.SegmentStreamResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveOptions:
    """What a client chooses for a stream."""

    masks: MaskOptions
    max_queued_frames: int
    """Frames that may be queued; a newer one takes the place of the oldest.  0 skips no frame."""
    budget: Budget
    erase: EraseView | None
    """Erases objects from the frames; None for masks only."""
    motion: MotionSettings | None
    """Motion of the points; None computes none."""
    gate_threshold: float | None
    """The threshold of the motion gate in grey levels; None for no gate."""


class LiveResponses:
    """Makes the responses of one stream, in the order in which they are sent, and times them."""

    def __init__(self, session_id: str, ring: FrameRing, points: LivePoints, options: LiveOptions) -> None:
        self._session_id = session_id
        self._ring = ring
        self._points = points
        self._gate_threshold = options.gate_threshold or 0.0
        self._timer = WindowTimer(options.budget)
        self._statistics = RunStatistics()
        self._window: WindowRecord | None = None
        self._num_skipped = self._num_rejected = 0
        self.erased: erase_pb2.ErasedImage | None = None
        """The frame of the last result without the objects."""

    def result(
        self,
        frame: types_pb2.FrameMasks,
        sequence: int,
        received_ns: int,
        *,
        newest: int,
        gated: bool,
    ) -> Response:
        """A result that is sent now.  ``newest`` is the number of the newest frame that was received."""
        skipped = [s for s in self._ring.skipped if s < sequence]
        self._ring.skipped = [s for s in self._ring.skipped if s > sequence]
        self._num_skipped += len(skipped)
        self._time(frame, sequence, received_ns, gated=gated)
        message = segmentation_pb2.StreamResult(
            frame=frame,
            sequence=sequence,
            skipped=skipped,
            resume_token=str(ResumePoint(self._session_id, frame.frame_index + 1, 0, start=sequence + 1)),
            window=None if self._window is None else wire.window_to_proto(self._window),
            gated=gated,
            newer_frames=max(0, newest - sequence),
            erased=self.erased,
        )
        self._points.fill(message)
        return Response(result=message)

    def answer(self, request_id: str, outcome: Response | MaskmeshError) -> Response:
        """The response to a command, or its rejection."""
        if isinstance(outcome, MaskmeshError):
            return self.rejection(outcome, request_id=request_id)
        return outcome

    def rejection(
        self, error: MaskmeshError, *, request_id: str = "", sequence: int | None = None
    ) -> Response:
        """The rejection of a frame, or of a command."""
        self._num_rejected += sequence is not None
        rejected = segmentation_pb2.StreamRejected(
            request_id=request_id,
            sequence=sequence,
            reason=error_reason_pb2.ErrorReason.Name(error.reason),
            message=error.message,
            metadata=error.metadata,
        )
        return Response(rejected=rejected)

    def summary(self, inbox: Inbox) -> Response:
        """The summary of the stream, whose frames came through ``inbox``."""
        summary = StreamSummary(
            received_frames=inbox.num_received,
            skipped_frames=self._num_skipped,
            rejected_frames=self._num_rejected,
            gate_threshold=self._gate_threshold,
            dropped_motion_windows=self._points.num_dropped_windows,
            run=self._statistics.summary(),
        )
        return Response(summary=wire.stream_summary_to_proto(summary))

    def _time(self, frame: types_pb2.FrameMasks, sequence: int, received_ns: int, *, gated: bool) -> None:
        received, sent = received_ns / 1e9, time.time_ns() / 1e9
        self._statistics.add_result(received, sent, gated=gated)
        stage_seconds = wire.stage_seconds_from_proto(frame.stage_times)
        window = self._timer.add(sequence, received, sent, stage_seconds, gated=gated)
        if window is not None:
            self._statistics.add_window(window)
            self._window = window
