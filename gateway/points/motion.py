"""The motion of followed points: options, tokens of a tracker, and messages."""

import asyncio
from collections.abc import Sequence

import numpy as np

from gateway.backends.trackers import Trackers
from gateway.points.motion_windows import (
    ActionBoundaries,
    Boundary,
    MotionSettings,
    MotionWindow,
    MotionWindows,
    Threshold,
    UsedFrame,
)
from gateway.points.queries import Queries
from maskmesh.errors import InvalidRequest
from maskmesh.internal.v1 import points_pb2 as internal_pb2
from maskmesh.masks import ByteArray
from maskmesh.media.pictures import grey_thumbnail
from maskmesh.types import Image
from maskmesh.v1 import motion_pb2, points_pb2, types_pb2

MAX_LENGTH = 256
DEFAULT_LENGTH, DEFAULT_STRIDE = 16, 4
DEFAULT_SCALE = 120.0
MIN_SCALE = 1e-3
STILL_GATE = Threshold(0.005, 0.05)
MOTION_GATE = Threshold(0.02, 0.025)

TOKENIZE_SECONDS = 10.0

# Side of the frames in grey that the still gate compares.
GREY_SIDE = 128

_STATUSES = {
    "moving": motion_pb2.MOTION_STATUS_MOVING,
    "still": motion_pb2.MOTION_STATUS_STILL,
    "unmoved": motion_pb2.MOTION_STATUS_UNMOVED,
}


def motion_settings(message: motion_pb2.MotionOptions, *, field: str) -> MotionSettings:
    """The options of a request.  Raises InvalidRequest."""
    length = message.window_length or DEFAULT_LENGTH
    stride = message.window_stride or min(DEFAULT_STRIDE, length)
    if not 2 <= length <= MAX_LENGTH:
        raise InvalidRequest(f"it must be 2 to {MAX_LENGTH}", field=f"{field}.window_length")
    if stride > length:
        raise InvalidRequest("it must be at most window_length", field=f"{field}.window_stride")
    for name in ("frames_per_second", "velocity_scale", "energy_threshold"):
        value = getattr(message, name)
        if not 0 <= value < float("inf"):
            raise InvalidRequest("it must be a number of at least 0", field=f"{field}.{name}")
    if message.velocity_scale and message.velocity_scale < MIN_SCALE:
        raise InvalidRequest(f"it must be 0, or at least {MIN_SCALE}", field=f"{field}.velocity_scale")
    return MotionSettings(
        length=length,
        stride=stride,
        frames_per_second=message.frames_per_second,
        velocity_scale=message.velocity_scale or DEFAULT_SCALE,
        still_gate=_threshold(message, "still_gate", STILL_GATE, field),
        motion_gate=_threshold(message, "motion_gate", MOTION_GATE, field),
        tokens=message.tokens,
        energy_threshold=message.energy_threshold,
    )


def _threshold(message: motion_pb2.MotionOptions, name: str, default: Threshold, field: str) -> Threshold:
    if not message.HasField(name):
        return default
    given: motion_pb2.MotionThreshold = getattr(message, name)
    for part in ("mean", "active"):
        if not 0 <= getattr(given, part) < float("inf"):
            raise InvalidRequest("it must be a number of at least 0", field=f"{field}.{name}.{part}")
    return Threshold(given.mean, given.active)


class PointMotion:
    """The motion of the points of one call."""

    def __init__(self, settings: MotionSettings, trackers: Trackers, tenant: str) -> None:
        self._tenant = tenant
        self._settings = settings
        self._trackers = trackers
        self._windows = MotionWindows(settings)
        self._boundaries = ActionBoundaries(settings.energy_threshold)
        self._greys: dict[int, ByteArray] = {}
        self._tokenizer_points = 0

    @property
    def has_tokens(self) -> bool:
        """Whether windows need the tokenizer of a tracker."""
        return self._settings.tokens

    def check_tokenizer(self, tokenizer_points: int, *, field: str = "motion.tokens") -> None:
        """Check that a tracker has the tokenizer that is needed.  Raises InvalidRequest."""
        if self.has_tokens and not tokenizer_points:
            raise InvalidRequest(
                "this mesh has no motion tokenizer: start trackers with --motion-checkpoint", field=field
            )
        self._tokenizer_points = tokenizer_points

    def check(self, tokenizer_points: int, queries: Queries) -> None:
        """Check that the tokenizer of a tracker can read the points of a call.  Raises InvalidRequest."""
        if not self.has_tokens:
            return
        self.check_tokenizer(tokenizer_points)
        count = sum(map(len, queries.values()))
        if count != tokenizer_points or len(queries) > 1:
            raise InvalidRequest(
                f"the motion tokenizer reads {tokenizer_points} points that are chosen on one frame; there "
                f"are {count} on {len(queries)}",
                field="motion.tokens",
            )

    async def read(self, frame_index: int, image: Image) -> None:
        """Keep what the still gate compares of a frame.  Raises InvalidImage."""
        if self._settings.still_gate.mean:
            self._greys[frame_index] = await asyncio.to_thread(
                grey_thumbnail, image, GREY_SIDE, field="frame_index"
            )

    async def add(self, frame: points_pb2.FramePoints) -> Sequence[motion_pb2.MotionWindow]:
        """The windows that end with a frame.  Raises InvalidRequest, Unavailable."""
        time = frame.time.ToNanoseconds() / 1e9 if frame.HasField("time") else None
        window = await self.collect(frame, time)
        if window is None:
            return ()
        message, stage_times = await self.evaluate(window)
        frame.stage_times.extend(stage_times)
        return [message]

    def forget(self, frame_index: int) -> None:
        """A frame that was read has no result."""
        self._greys.pop(frame_index, None)

    async def collect(
        self, frame: points_pb2.FramePoints, time: float | None, numbers: Sequence[int] | None = None
    ) -> MotionWindow | None:
        """Add the next frame, at ``time`` in seconds; returns the window that it completes.

        ``numbers`` tell points apart, where those of the client are used again for others.
        """
        grey = self._greys.pop(frame.frame_index, None)
        used = UsedFrame(
            frame.frame_index,
            time,
            np.array(numbers or [point.point_id for point in frame.points], np.int64),
            np.array([(p.x, p.y, p.visible) for p in frame.points], np.float32).reshape(-1, 3),
            grey,
        )
        return await asyncio.to_thread(self._windows.add, used)

    async def evaluate(
        self, window: MotionWindow
    ) -> tuple[motion_pb2.MotionWindow, Sequence[types_pb2.StageTime]]:
        """The motion in a window, and the stages that it took.  Raises InvalidRequest, Unavailable."""
        message = motion_pb2.MotionWindow(
            window=window.window,
            first_frame_index=window.first_frame_index,
            last_frame_index=window.last_frame_index,
            status=_STATUSES[window.status],
            points=window.velocities.shape[1],
            mean_velocity=window.mean_velocity,
        )
        energy = 0.0 if window.status != "moving" else window.mean_velocity
        stage_times: Sequence[types_pb2.StageTime] = ()
        if self.has_tokens and window.status == "moving":
            if message.points != self._tokenizer_points:
                message.status = motion_pb2.MOTION_STATUS_OTHER_POINTS
                message.energy = self._boundaries.energy
                return message, ()
            response = await self._tokenize(window)
            message.codes.extend(response.codes)
            energy, stage_times = response.energy, response.stage_times
        found = self._boundaries.add(window, energy, message.codes[-1] if message.codes else None)
        message.energy = self._boundaries.energy
        message.boundaries.extend(_boundary(boundary) for boundary in found)
        return message, stage_times

    async def _tokenize(self, window: MotionWindow) -> internal_pb2.TokenizeMotionResponse:
        intervals, points, _ = window.velocities.shape
        request = internal_pb2.TokenizeMotionRequest(
            intervals=intervals,
            points=points,
            velocities=window.velocities.tobytes(),
            tenant=self._tenant,
        )
        timed = await self._trackers.call_any("TokenizeMotion", request, TOKENIZE_SECONDS)
        response: internal_pb2.TokenizeMotionResponse = timed.message
        return response


def _boundary(boundary: Boundary) -> motion_pb2.MotionBoundary:
    message = motion_pb2.MotionBoundary(
        kind=motion_pb2.BOUNDARY_KIND_START if boundary.kind == "start" else motion_pb2.BOUNDARY_KIND_END,
        frame_index=boundary.frame_index,
        code=boundary.code,
    )
    if boundary.time is not None:
        message.time.FromNanoseconds(round(boundary.time * 1e9))
    return message
