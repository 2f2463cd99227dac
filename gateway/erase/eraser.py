"""Erases objects from consecutive frames: what they hide is taken from frames that show it.

Each erased pixel follows the completed flow to the frame before, to a pixel that is visible there or erased
too.  An erased one passes on where its own content came from, so content is interpolated once and not in
every frame.  With a look-ahead, pixels follow the flow to later frames as well.  What no frame shows is
filled by neighbours or by a model, and carried on.
"""

import time
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np

from gateway.erase.fill import Filler
from gateway.erase.flow import Flow, FlowEstimator, FlowImage
from gateway.erase.hole import INVENTED, Hole, IntArray
from gateway.erase.push_pull import FloatArray
from gateway.erase.sampling import sample
from maskmesh import telemetry
from maskmesh.masks import BoolArray, ByteArray
from maskmesh.telemetry import StageRecorder

# Frames whose pixels are kept: content that is older is taken from the frame before, where it was filled in.
MAX_SOURCES = 8

# Differences of brightness add up along the frames; this bounds them, in levels of colour.
MAX_OFFSET = 30.0
DECAY = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class EraserOptions:
    """How flow is estimated, and how many later frames are read."""

    flow_side: int
    """The longer side of the flow, in pixels."""
    fast_flow: bool = False
    look_ahead: int = 0
    feather: int = 2
    """Width of the transition at the edge of the erased part, in pixels of the frame."""


class Erased(NamedTuple):
    """A frame without its objects: [H, W, 3], and how many pixels have content of what kind."""

    pixels: ByteArray
    num_propagated: int
    num_invented: int
    recorder: StageRecorder
    """The recorder with which the frame was added."""


@dataclass(slots=True)
class _Frame:
    pixels: ByteArray
    hole: Hole
    flow_image: FlowImage | None
    """None where no later frame needs it."""
    recorder: StageRecorder
    pushed_ns: int
    back: Flow | None = None
    """Flow to the frame before; None for the first frame, and after a cut."""
    ahead: Flow | None = None
    """Flow to the next frame; None for the last one, and before a cut."""


class _Candidate(NamedTuple):
    """Content for the pixels of a hole."""

    colours: FloatArray
    age: IntArray


@dataclass(slots=True)
class Eraser:
    """Erases objects from the frames of one stream, in order.  Memory is bounded by a number of frames.

    Not safe for concurrent use.
    """

    options: EraserOptions
    filler: Filler
    _flow: FlowEstimator = field(init=False)
    _ahead: deque[_Frame] = field(default_factory=deque)
    _before: _Frame | None = None
    _sources: deque[ByteArray] = field(default_factory=lambda: deque(maxlen=MAX_SOURCES))
    _number: int = 0
    """The number of the next frame that is erased; _sources are the frames before it."""

    def __post_init__(self) -> None:
        self._flow = FlowEstimator(self.options.flow_side, fast=self.options.fast_flow)

    def push(self, pixels: ByteArray, mask: BoolArray, recorder: StageRecorder) -> Erased | None:
        """Add the next frame: [H, W, 3], and the pixels to erase: [H, W].

        Returns the frame that is ``look_ahead`` frames behind, None for the first calls.
        """
        last = self._ahead[-1] if self._ahead else self._before
        with recorder.stage(telemetry.ERASE_FLOW):
            frame = _Frame(
                pixels,
                Hole.of(mask),
                self._flow.image(pixels, mask),
                recorder,
                time.time_ns(),
            )
            if last is not None:
                self._connect(last, frame)
        frame.pushed_ns = time.time_ns()
        self._ahead.append(frame)
        return self.pop() if len(self._ahead) > self.options.look_ahead else None

    def pop(self) -> Erased | None:
        """The next frame, at the end of the stream; None if there is none."""
        if not self._ahead:
            return None
        frame = self._ahead.popleft()
        recorder, hole = frame.recorder, frame.hole
        hole.begin(self._number)
        if self.options.look_ahead:
            recorder.wait(frame.pushed_ns, time.time_ns(), "look_ahead")
        out = frame.pixels
        if len(hole):
            with recorder.stage(telemetry.ERASE_PROPAGATE):
                colours = self._propagated(frame)
            out = frame.pixels.copy()
            # What was invented for the frame before is known too, and is carried on, so that it does not
            # flicker.
            known = np.isfinite(colours[:, 0])
            out[hole.y[known], hole.x[known]] = np.rint(colours[known].clip(0, 255))
            if not known.all():
                with recorder.stage(telemetry.ERASE_FILL):
                    unknown = np.zeros(frame.pixels.shape[:2], np.bool_)
                    unknown[hole.y[~known], hole.x[~known]] = True
                    out = self.filler.fill(out, unknown)
        # Later frames take content from here, which must not contain the object: so not from the result.
        self._sources.append(out)
        if len(hole) and self.options.feather:
            with recorder.stage(telemetry.ERASE_COMPOSE):
                out = _feathered(frame.pixels, out, hole, self.options.feather)
        self._forget(frame)
        self._before = frame
        self._number += 1
        num_propagated = int(np.count_nonzero(hole.age < INVENTED))
        return Erased(out, num_propagated, len(hole) - num_propagated, recorder)

    def _forget(self, frame: _Frame) -> None:
        """Drop what no later frame needs of the one that was erased."""
        frame.back = frame.ahead = None
        frame.pixels = self._sources[-1]
        if self._ahead:
            frame.flow_image = None

    def _connect(self, last: _Frame, frame: _Frame) -> None:
        """Estimate the flow between consecutive frames, as far as it is needed."""
        assert frame.flow_image is not None, "it was just made"
        assert last.flow_image is not None, "the last frame keeps it"
        if len(frame.hole):
            back = self._flow.between(frame.flow_image, last.flow_image)
            frame.back = None if back.is_cut else back
        if len(last.hole) and self.options.look_ahead:
            ahead = self._flow.between(last.flow_image, frame.flow_image)
            last.ahead = None if ahead.is_cut else ahead

    def _propagated(self, frame: _Frame) -> FloatArray:
        """Content from the frames before and after: [N, 3], not a number where there is none.

        Sets where the content of the hole comes from.
        """
        hole = frame.hole
        past = self._from_past(frame)
        if not self.options.look_ahead:
            hole.age = past.age
            return past.colours
        future = self._from_future(frame)
        # The nearer frame counts for more.
        weights = [np.where(c.age < INVENTED, 1 / c.age.clip(1), 0)[:, None] for c in (past, future)]
        total = weights[0] + weights[1]
        blended = sum(
            w * np.where(w > 0, c.colours, 0) for w, c in zip(weights, (past, future), strict=True)
        ) / np.maximum(total, 1e-9)
        changed = weights[1][:, 0] > 0
        # Where a later frame counts, the content is this frame's own.
        hole.number[changed] = self._number
        hole.source_x[changed], hole.source_y[changed] = hole.x[changed], hole.y[changed]
        hole.offset[changed] = 0
        hole.age = np.minimum(past.age, future.age)
        return np.where(total > 0, blended, past.colours).astype(np.float32)

    def _from_past(self, frame: _Frame) -> _Candidate:
        """Content that the frames before have shown or invented."""
        hole, before = frame.hole, self._before
        if before is None or frame.back is None:
            return _Candidate(np.full((len(hole), 3), np.nan, np.float32), np.full_like(hole.age, INVENTED))
        x, y = hole.x.astype(np.float32), hole.y.astype(np.float32)
        dx, dy, difference = _moves(frame.back, hole, x, y)
        x, y = x + dx, y + dy
        inside = hole.is_inside(x, y)
        x, y = x.clip(0, hole.width - 1), y.clip(0, hole.height - 1)
        parent = before.hole.at(x, y)
        is_erased = parent >= 0
        earlier = before.hole
        age = np.where(is_erased, earlier.age[parent] + 1, 1) if len(earlier) else np.ones_like(parent)
        age = np.where(inside, age.clip(max=INVENTED), INVENTED).astype(np.int32)
        hole.number, hole.source_x, hole.source_y = np.full_like(parent, self._number - 1), x, y
        hole.offset = difference
        if len(earlier):
            oldest = self._number - len(self._sources)
            passes_on = is_erased & (age < INVENTED) & (earlier.number[parent] >= oldest)
            own = parent[passes_on]
            hole.number[passes_on] = earlier.number[own]
            hole.source_x[passes_on] = earlier.source_x[own] + x[passes_on] - earlier.x[own]
            hole.source_y[passes_on] = earlier.source_y[own] + y[passes_on] - earlier.y[own]
            hole.offset[passes_on] += earlier.offset[own]
        hole.offset = (hole.offset * DECAY).clip(-MAX_OFFSET, MAX_OFFSET)
        colours = np.full((len(hole), 3), np.nan, np.float32)
        for number in np.unique(hole.number):
            chosen = (hole.number == number) & inside
            source = self._sources[int(number) - self._number]
            colours[chosen] = sample(source, hole.source_x[chosen], hole.source_y[chosen])
        return _Candidate(colours + hole.offset, age)

    def _from_future(self, frame: _Frame) -> _Candidate:
        """Content that the next frames show."""
        hole = frame.hole
        colours = np.full((len(hole), 3), np.nan, np.float32)
        age = np.full_like(hole.age, INVENTED)
        left = np.arange(len(hole))
        x, y = hole.x.astype(np.float32), hole.y.astype(np.float32)
        current = frame
        for distance, following in enumerate(self._ahead, start=1):
            if current.ahead is None or not len(left):
                break
            dx, dy, _ = _moves(current.ahead, hole, x, y)
            x, y = x + dx, y + dy
            inside = hole.is_inside(x, y)
            left, x, y = left[inside], x[inside], y[inside]
            visible = following.hole.at(x, y) < 0
            seen = left[visible]
            colours[seen] = sample(following.pixels, x[visible], y[visible])
            age[seen] = distance
            left, x, y = left[~visible], x[~visible], y[~visible]
            current = following
        return _Candidate(colours, age)


def _moves(flow: Flow, hole: Hole, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The moves from N positions of a frame, in its pixels, and the differences of brightness, [N, 3]."""
    height, width = flow.vectors.shape[:2]
    scale_x, scale_y = width / hole.width, height / hole.height
    at = ((x + 0.5) * scale_x - 0.5).astype(np.float32), ((y + 0.5) * scale_y - 0.5).astype(np.float32)
    vectors = sample(flow.vectors, *at)
    return vectors[:, 0] / scale_x, vectors[:, 1] / scale_y, sample(flow.difference, *at)


def _feathered(pixels: ByteArray, erased: ByteArray, hole: Hole, width: int) -> ByteArray:
    """The erased frame, with the edge of the erased part blended into the original."""
    # Beyond the frame there is nothing to blend with.
    box_height, box_width = hole.index.shape
    borders = (
        int(hole.top > 0),
        int(hole.top + box_height < hole.height),
        int(hole.left > 0),
        int(hole.left + box_width < hole.width),
    )
    part = cv2.copyMakeBorder((hole.index >= 0).astype(np.uint8), *borders, cv2.BORDER_CONSTANT, value=0)
    if part.all():
        return erased
    distance = cv2.distanceTransform(part, cv2.DIST_L2, 3)
    y, x = np.nonzero((part > 0) & (distance <= width))
    share = (distance[y, x] / (width + 1))[:, None]
    y, x = y + hole.top - borders[0], x + hole.left - borders[2]
    out = erased.copy()
    out[y, x] = np.rint(share * erased[y, x] + (1 - share) * pixels[y, x])
    return out
