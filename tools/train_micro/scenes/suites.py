"""The evaluation clips of the embedded model, composed of held-out photographs only.

Each suite evaluates one difficulty.  Seeds, images and cut-outs are disjoint from those of training, and
there are no synthetic shapes or textures.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from maskmesh.evaluation.truth import TrueFrame
from maskmesh.masks import ByteArray
from tools.train_micro.data.sources import Pool, Source, resized
from tools.train_micro.scenes.compose import cut_out
from tools.train_micro.scenes.motions import still
from tools.train_micro.scenes.render import Layer, Motion, Pose, render
from tools.train_micro.scenes.seeds import EVALUATION_STREAMS
from tools.train_micro.scenes.textures import SIDE

FRAMES = 40
SIZE = 360
CLIPS = 12


@dataclass(frozen=True, slots=True)
class Clip:
    """Frames with their ground truth."""

    name: str
    frames: list[TrueFrame]


Way = Callable[[float], tuple[float, float]]  # maps a time from 0 to 1 to a position on the canvas


class Suites:
    """Composes the clips of every suite; equal seeds give equal clips."""

    def __init__(self, sources: Sequence[Source], *, seed: int = 0) -> None:
        self._sources = sources
        # A click is ambiguous if one mask has several objects; such masks are evaluated on images only.
        pool = Pool(sources)
        sprites = (cut_out(source, label) for source, label in pool.all_objects())
        self._cut_outs = [sprite for sprite in sprites if _is_one_piece(sprite[1])]
        self._seed = seed

    def clips(self, suite: str, count: int = CLIPS) -> list[Clip]:
        """The clips of one of :data:`SUITES`."""
        made = []
        for index in range(count):
            random = np.random.default_rng((self._seed, EVALUATION_STREAMS[suite], index))
            layers, tracked = SUITES[suite](self, random)
            made.append(self._shoot(f"{suite}-{index}", layers, tracked, random))
        return made

    def open_way(self, random: np.random.Generator) -> tuple[list[Layer], int]:
        """One object without occlusion, and a moving camera."""
        layer = self._object(random, _wave(random), random.uniform(0.35, 0.6))
        return [self._ground(random), layer], 1

    def behind_others(self, random: np.random.Generator) -> tuple[list[Layer], int]:
        """One object, and two other objects that pass in front of it."""
        way = _wave(random)
        layers = [self._ground(random), self._object(random, way, random.uniform(0.4, 0.6))]
        for meeting in (random.uniform(0.2, 0.45), random.uniform(0.55, 0.85)):
            crossing = _crossing(way, meeting, random)
            layers.append(self._object(random, crossing, random.uniform(0.2, 0.35)))
        return layers, 1

    def alike_crossing(self, random: np.random.Generator) -> tuple[list[Layer], int]:
        """Two objects with the same image that cross; both are tracked."""
        first = self._object(random, lambda t: (0.22 + 0.56 * t, 0.42), 0.38)
        upward = random.uniform(0.1, 0.2)
        mirrored = self._placed(first, lambda t: (0.78 - 0.56 * t, 0.42 + upward), flip=True)
        return [self._ground(random), first, mirrored], 2

    def hidden(self, random: np.random.Generator) -> tuple[list[Layer], int]:
        """One object that is fully occluded for about a quarter of the clip, and returns."""
        size = random.uniform(0.24, 0.32)
        layer = self._object(random, lambda t: (0.15 + 0.7 * t, 0.5), size)
        screen = self._object(random, lambda t: (0.5, 0.5), 0.5)
        solid = np.full_like(screen.masks, 255)
        # The occluder is a whole photograph, because a cut-out has gaps.
        wall = replace(screen, picture=self._picture(random), alpha=solid[0], masks=solid)
        return [self._ground(random), layer, wall], 1

    def _shoot(self, name: str, layers: list[Layer], tracked: int, random: np.random.Generator) -> Clip:
        camera = _camera(random)
        times = [index / (FRAMES - 1) for index in range(FRAMES)]
        rendered = render(layers, camera, times, SIZE)
        frames = []
        for index, picture in enumerate(rendered.frames):
            labels = np.zeros((SIZE, SIZE), dtype=np.int64)
            for obj_id in range(1, tracked + 1):
                labels[rendered.masks[index, obj_id - 1]] = obj_id
            frames.append(TrueFrame(f"{index:05d}", picture, labels))
        return Clip(name, frames)

    def _picture(self, random: np.random.Generator) -> ByteArray:
        picture = self._sources[int(random.integers(len(self._sources)))].picture
        return resized(picture, SIDE)

    def _ground(self, random: np.random.Generator) -> Layer:
        source = self._sources[int(random.integers(len(self._sources)))]
        nothing = np.zeros((0, *source.labels.shape), dtype=np.uint8)
        return Layer(source.picture, nothing, None, still(Pose(0.5, 0.5, 1.35)))

    def _object(self, random: np.random.Generator, way: Way, size: float) -> Layer:
        picture, alpha = self._cut_outs[int(random.integers(len(self._cut_outs)))]
        growth, turning = random.normal(0, 0.15), random.normal(0, 0.3)
        start = Pose(0.5, 0.5, size, flip=bool(random.random() < 0.5))

        def motion(time: float) -> Pose:
            x, y = way(time)
            return replace(start, x=x, y=y, size=size * float(np.exp(growth * time)), turn=turning * time)

        return Layer(picture, alpha[None], alpha, motion)

    @staticmethod
    def _placed(layer: Layer, way: Way, *, flip: bool) -> Layer:
        """The same object on another path."""

        def motion(time: float) -> Pose:
            x, y = way(time)
            pose = layer.motion(time)
            return replace(pose, x=x, y=y, flip=pose.flip != flip)

        return replace(layer, motion=motion)


SUITES: dict[str, Callable[[Suites, np.random.Generator], tuple[list[Layer], int]]] = {
    "nothing in the way": Suites.open_way,
    "others pass in front": Suites.behind_others,
    "two alike cross": Suites.alike_crossing,
    "hidden for a while": Suites.hidden,
}


def _is_one_piece(alpha: ByteArray) -> bool:
    """Whether at least 95 % of a shape is one connected component."""
    _, _, statistics, _ = cv2.connectedComponentsWithStats((alpha > 127).astype(np.uint8))
    areas = statistics[1:, cv2.CC_STAT_AREA]
    return bool(len(areas)) and float(areas.max()) >= 0.95 * float(areas.sum())


def _wave(random: np.random.Generator) -> Way:
    """A curved path over a large part of the canvas that never leaves it."""
    start, end = random.uniform(0.3, 0.7, 2), random.uniform(0.25, 0.75, 2)
    bend, turns = random.uniform(-0.12, 0.12, 2), random.uniform(0.5, 1.5)

    def way(time: float) -> tuple[float, float]:
        x, y = start + (end - start) * time + bend * np.sin(2 * np.pi * turns * time)
        return float(x), float(y)

    return way


def _crossing(of: Way, meeting: float, random: np.random.Generator) -> Way:
    """A straight path that meets another path at the time ``meeting``."""
    x, y = of(meeting)
    heading, speed = random.uniform(0, 2 * np.pi), random.uniform(1.5, 2.5)

    def way(time: float) -> tuple[float, float]:
        ahead = (time - meeting) * speed
        return x + ahead * float(np.cos(heading)), y + ahead * float(np.sin(heading))

    return way


def _camera(random: np.random.Generator) -> Motion:
    """A slow pan and zoom."""
    pan_x, pan_y = random.uniform(-0.06, 0.06, 2)
    zoom = random.uniform(-0.06, 0.06)
    return lambda time: Pose(0.5 + pan_x * time, 0.5 + pan_y * time, 1.02 * float(np.exp(zoom * time)))
