"""What a live stream returns for each frame."""

from collections.abc import Sequence
from dataclasses import dataclass

from maskmesh import wire
from maskmesh.erasing import ErasedImage
from maskmesh.points import FramePoints, MotionWindow
from maskmesh.records.budget import WindowRecord
from maskmesh.types import FrameMasks
from maskmesh.v1 import segmentation_pb2


@dataclass(frozen=True, slots=True)
class LiveResult:
    """One frame of a live stream."""

    frame: FrameMasks
    """Its objects; its ``frame_index`` counts the tracked frames."""
    sequence: int
    """The frame's number as :meth:`LiveStream.send` returned it."""
    skipped: Sequence[int]
    """The frames that were skipped since the previous result."""
    resume_token: str
    """Continues the stream after this frame."""
    window: WindowRecord | None = None
    """The last window that is complete, see :class:`maskmesh.Budget`; this result completed it if its
    ``last_sequence`` is the sequence of this result."""
    gated: bool = False
    """Whether nothing has moved since the frame whose masks these are, so that this one was not encoded."""
    newer_frames: int = 0
    """Number of frames that the gateway had received after this one when it sent the result."""
    erased: ErasedImage | None = None
    """The frame without the objects, if the stream erases them."""
    points: FramePoints | None = None
    """The points on the frame, if points are followed."""
    motion_windows: Sequence[MotionWindow] = ()
    """The windows of the points' motion that were computed since the previous result, if motion was
    requested; they may have ended with an earlier frame."""
    lost_points: Sequence[int] = ()
    """Points that are not followed any longer: their tracker or the connection was lost while they were out
    of sight, or no tracker follows points."""


def live_result_from_proto(result: segmentation_pb2.StreamResult, lost_points: Sequence[int]) -> LiveResult:
    """Convert a result; ``lost_points`` are those that were lost before it."""
    return LiveResult(
        wire.frame_masks_from_proto(result.frame),
        result.sequence,
        tuple(result.skipped),
        result.resume_token,
        wire.window_from_proto(result.window) if result.HasField("window") else None,
        result.gated,
        result.newer_frames,
        wire.erased_image_from_proto(result.erased) if result.HasField("erased") else None,
        wire.frame_points_from_proto(result.points) if result.HasField("points") else None,
        tuple(wire.motion_window_from_proto(w) for w in result.motion_windows),
        lost_points,
    )
