"""Random training scenes: photographs, and moving cut-outs and synthetic shapes on other backgrounds.

All randomness comes from one generator; equal seeds give equal scenes.
"""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from maskmesh.masks import ByteArray
from tools.train_micro.data.real_clips import RealClip
from tools.train_micro.data.sources import Pool, Source, resized
from tools.train_micro.scenes.encounters import cover, cross, pass_behind, path_of_object
from tools.train_micro.scenes.lighting import recolour
from tools.train_micro.scenes.motions import camera, cut_short, still, wander
from tools.train_micro.scenes.render import Layer, Pose, Rendered, render
from tools.train_micro.scenes.textures import SIDE, draw_shape, draw_texture

# Minimum visible part of a prompted object on the first frame.
MIN_VISIBLE_PIXELS = 150
MIN_VISIBLE_SHARE = 0.35

# Maximum number of a photograph's objects that one scene prompts, and their minimum area, in pixels of the
# stored square.
MOST_OBJECTS = 4
MIN_OBJECT_PIXELS = 280

# Maximum distance of two frames of a filmed clip that follow one another in a scene.
MOST_GAP = 4

# Minimum number of frames of a scene with an encounter; in clips of more than ``LONG`` frames, the motion of
# a frame is smaller.
LEAST_ENCOUNTER = 6
LONG = 10

# Fractions of foreground layers that are cut-outs, and object shapes with another texture; the others are
# synthetic shapes.
CUT_OUTS = 0.5
OBJECT_SHAPES = 0.25

# Fraction of backgrounds that are textures instead of photographs.
PLAIN_TEXTURES = 0.25

# Fraction of still scenes without cut-outs that are a frame of a filmed clip instead of a photograph.
FILMED_STILLS = 0.12

Sprite = tuple[ByteArray, ByteArray]  # image and alpha, both [SIDE, SIDE]


def cut_out(source: Source, label: int) -> Sprite:
    """One object of a photograph, cut out into a square; the source shows it."""
    mask = source.mask(label)
    rows, columns = np.nonzero(mask)
    top, left = int(rows.min()), int(columns.min())
    side = max(int(np.ptp(rows)), int(np.ptp(columns))) + 5
    # Mask outlines are not exact to the pixel; eroding the mask removes a rim of the old background.
    alpha = cv2.GaussianBlur(cv2.erode(mask, np.ones((3, 3), dtype=np.uint8)), (0, 0), 1.0)
    square = np.zeros((side, side, 4), dtype=np.uint8)
    part = np.dstack((source.picture, np.asarray(alpha, dtype=np.uint8)))[
        top : top + side, left : left + side
    ]
    down, right = (side - part.shape[0]) // 2, (side - part.shape[1]) // 2
    square[down : down + part.shape[0], right : right + part.shape[1]] = part
    sprite = resized(square, SIDE)
    return np.ascontiguousarray(sprite[..., :3]), np.ascontiguousarray(sprite[..., 3])


def chosen_masks(source: Source, random: np.random.Generator) -> ByteArray:
    """The masks of some objects of a photograph, [K, N, N], 0 or 255; none of them is tiny.

    Of parts that form a whole, half of the calls give the whole.
    """
    if source.image_set.is_whole and random.random() < 0.5:
        return source.mask(0)[None]
    counts = np.bincount(source.labels.ravel())
    large = [label for label in range(1, len(counts)) if counts[label] >= MIN_OBJECT_PIXELS]
    chosen = random.permutation(large)[:MOST_OBJECTS]
    if not len(chosen):
        return np.zeros((0, *source.labels.shape), dtype=np.uint8)
    return np.stack([source.mask(int(label)) for label in chosen])


class Composer:
    """Composes scenes from photographs and filmed clips.

    ``composed`` is the fraction of still scenes with cut-outs, ``filmed`` that of moving scenes with a filmed
    background if there are clips.  ``encounters`` is the fraction of moving scenes in which an object is
    hidden for a while, or two similar objects cross.
    """

    def __init__(
        self,
        pool: Pool,
        size: int,
        *,
        composed: float = 0.5,
        clips: Sequence[RealClip] = (),
        filmed: float = 0.5,
        encounters: float = 0.0,
    ) -> None:
        self.pool = pool
        self.clips = clips
        self.filmed = filmed if clips else 0.0
        self.encounters = encounters
        self.size = size
        self.composed = composed

    def still_scene(self, random: np.random.Generator) -> tuple[Rendered, list[int]]:
        """One frame, and the indices of its promptable objects (at least one)."""
        if random.random() >= self.composed:
            if self.clips and random.random() < FILMED_STILLS:
                layers = [self._film(random, 1)]
            else:
                layers = [self._photograph(random, close=random.random() < 0.6)]
            if random.random() < 0.15:
                layers.append(self._sprite(random, size=random.uniform(0.1, 0.4)))
        else:
            layers = [self._ground(random)]
            layers += [
                self._sprite(random, size=random.uniform(0.15, 0.85))
                for _ in range(int(random.integers(1, 5)))
            ]
        rendered = render(layers, still(Pose(0.5, 0.5, 1.0)), [0.0], self.size)
        visible = self._promptable(rendered)
        return (rendered, visible) if visible else self.still_scene(random)

    def clip_scene(self, random: np.random.Generator, frames: int) -> tuple[Rendered, list[int]]:
        """Frames of a scene in motion, and the indices of the objects promptable on the first frame."""
        if frames >= LEAST_ENCOUNTER and random.random() < self.encounters:
            return self._encounter(random, frames)
        pace = random.uniform(0.3, 1.0)  # speed of the scene, from slow to fast
        pace *= min(LONG / frames, 1.0)
        kind = random.random()
        if self._is_filmed(random, frames):
            layers = [self._film(random, frames)]
            count = int(random.choice([0, 1, 2], p=[0.5, 0.35, 0.15]))
            pace *= 0.5  # the clip has a motion of its own
        elif kind < 0.3:
            layers = [self._photograph(random, close=False)]
            count = int(random.integers(0, 2))
        else:
            layers = [self._ground(random)]
            count = int(random.integers(1, 4))
        for _ in range(count):
            layer = self._sprite(random, size=random.uniform(0.2, 0.75))
            layers.append(replace(layer, motion=wander(layer.motion(0.0), random, pace, frames)))
        if count and random.random() < 0.3:
            layers.append(self._twin(layers[-1], random, pace, frames))
        if random.random() < 0.35 and layers[-1].alpha is not None:
            layers.append(self._passer_by(layers[-1], random, frames))
        layers = [layers[0], *(cut_short(layer, random, frames) for layer in layers[1:])]
        view = camera(random, pace)
        rendered = render(layers, view, [float(t) for t in range(frames)], self.size)
        visible = self._promptable(rendered)
        return (rendered, visible) if visible else self.clip_scene(random, frames)

    def _encounter(self, random: np.random.Generator, frames: int) -> tuple[Rendered, list[int]]:
        """A scene with an encounter; its promptable objects are those that meet, all of them."""
        filmed = self._is_filmed(random, frames)
        ground = self._film(random, frames) if filmed else self._ground(random)
        layers, tracked = [ground], []
        kind = random.random()
        if filmed and ground.num_objects and kind < 0.5:
            label = int(random.integers(ground.num_objects))
            places, side = path_of_object(ground, label, frames)
            layers.append(cover(self._wall(random, side * random.uniform(1.1, 1.6)), places, random))
            tracked = [label]
        elif kind < 0.65:
            target = self._sprite(random, size=random.uniform(0.15, 0.4))
            wall = self._wall(random, target.motion(0.0).size * random.uniform(1.1, 2.2))
            other = self._twin(target, random, 0.3, frames)
            if random.random() < 0.5:
                other = self._sprite(random, size=random.uniform(0.15, 0.4))
            tracked = [ground.num_objects, ground.num_objects + 1]
            layers += [other, *pass_behind(target, wall, random, frames)]
        else:
            first = self._sprite(random, size=random.uniform(0.2, 0.5))
            second = self._twin(first, random, 0.3, frames)
            if random.random() < 0.25:
                second = self._sprite(random, size=first.motion(0.0).size)
            tracked = [ground.num_objects, ground.num_objects + 1]
            layers += cross(first, second, random, frames)
        view = camera(random, min(LONG / frames, 1.0))
        rendered = render(layers, view, [float(t) for t in range(frames)], self.size)
        visible = set(self._promptable(rendered))
        if not visible.issuperset(tracked[-1:]):
            return self._encounter(random, frames)
        return rendered, [number for number in tracked if number in visible]

    def _wall(self, random: np.random.Generator, size: float) -> Layer:
        """A solid rectangle, or a large cut-out, that can hide an object of less than its size."""
        layer = self._sprite(random, size=min(size, 1.1))
        if random.random() < 0.25:
            return layer
        solid = np.full((SIDE, SIDE), 255, dtype=np.uint8)
        picture = draw_texture(random) if random.random() < 0.4 else self._patch(random)
        return replace(layer, picture=picture, alpha=solid, masks=solid[None])

    def _is_filmed(self, random: np.random.Generator, frames: int) -> bool:
        """Whether the background is filmed; some clips must be long enough."""
        return random.random() < self.filmed and any(len(clip.frames) >= frames for clip in self.clips)

    def _promptable(self, rendered: Rendered) -> list[int]:
        pixels, shares = rendered.masks[0].sum(axis=(1, 2)), rendered.shares[0]
        enough = (pixels >= MIN_VISIBLE_PIXELS) & (shares >= MIN_VISIBLE_SHARE)
        return [int(number) for number in np.nonzero(enough)[0]]

    def _photograph(self, random: np.random.Generator, *, close: bool) -> Layer:
        """A photograph that covers the canvas; ``close`` keeps it nearly unchanged."""
        source = self.pool.photograph(random)
        size = random.uniform(1.0, 1.12) if close else random.uniform(1.05, 1.7)
        aspect = np.exp(random.uniform(-0.05, 0.05) if close else random.uniform(-0.2, 0.2))
        aspect = float(np.clip(aspect, 1 / size, size))
        room_x, room_y = (max(side - 1, 0.0) / 2 for side in (size * aspect, size / aspect))
        pose = Pose(
            0.5 + random.uniform(-room_x, room_x),
            0.5 + random.uniform(-room_y, room_y),
            size,
            turn=0.0 if random.random() < 0.5 else random.normal(0, 0.1),
            aspect=aspect,
            flip=bool(random.random() < 0.5),
        )
        return Layer(source.picture, chosen_masks(source, random), None, still(pose))

    def _film(self, random: np.random.Generator, frames: int) -> Layer:
        """Some frames of a clip, forward or backward, with gaps, as a background that covers the canvas.

        A clip has at least so many frames; see :meth:`_is_filmed`.
        """
        clips = [clip for clip in self.clips if len(clip.frames) >= frames]
        clip = clips[int(random.integers(len(clips)))]
        length = len(clip.frames)
        gap = int(random.integers(1, max(min((length - 1) // max(frames - 1, 1), MOST_GAP), 1) + 1))
        start = int(random.integers(length - gap * (frames - 1)))
        chosen = start + gap * np.arange(frames)
        if random.random() < 0.5:
            chosen = chosen[::-1]
        labels = random.permutation(clip.promptable(int(chosen[0]), MIN_OBJECT_PIXELS))[:MOST_OBJECTS]
        masks = np.zeros((frames, len(labels), *clip.labels.shape[1:]), dtype=np.uint8)
        for number, label in enumerate(labels):
            masks[:, number] = np.where(clip.labels[chosen] == label, 255, 0)
        size = random.uniform(1.0, 1.5)
        room = (size - 1) / 2
        pose = Pose(
            0.5 + random.uniform(-room, room),
            0.5 + random.uniform(-room, room),
            size,
            flip=bool(random.random() < 0.5),
        )
        return Layer(np.ascontiguousarray(clip.frames[chosen]), masks, None, still(pose))

    def _ground(self, random: np.random.Generator) -> Layer:
        """A background: a photograph, or a texture without an object."""
        if random.random() > PLAIN_TEXTURES:
            return self._photograph(random, close=False)
        texture = draw_texture(random)
        pose = Pose(0.5, 0.5, random.uniform(1.0, 2.0), turn=random.uniform(0, 6.3))
        return Layer(texture, np.zeros((0, *texture.shape[:2]), dtype=np.uint8), None, still(pose))

    def _sprite(self, random: np.random.Generator, *, size: float) -> Layer:
        """A cut-out, or a shape with another texture, at a random position on the canvas."""
        kind = random.random()
        picture, alpha = cut_out(*self.pool.object(random))
        if kind >= CUT_OUTS:
            picture = draw_texture(random) if random.random() < 0.5 else self._patch(random)
        if kind >= CUT_OUTS + OBJECT_SHAPES:
            alpha = draw_shape(random)
        if random.random() < 0.5:
            picture = recolour(picture, random, 1.0)
        pose = Pose(
            random.uniform(0.1, 0.9),
            random.uniform(0.1, 0.9),
            size,
            turn=random.normal(0, 0.5),
            aspect=float(np.exp(random.uniform(-0.3, 0.3))),
            flip=bool(random.random() < 0.5),
            shear=random.normal(0, 0.2) if random.random() < 0.5 else 0.0,
        )
        return Layer(picture, alpha[None], alpha, still(pose))

    def _patch(self, random: np.random.Generator) -> ByteArray:
        """A patch of a photograph as a texture."""
        picture = self.pool.photograph(random).picture
        side = int(random.integers(60, SIDE))
        top, left = (int(random.integers(0, picture.shape[axis] - side)) for axis in (0, 1))
        patch = picture[top : top + side, left : left + side]
        return resized(patch, SIDE)

    def _twin(self, of: Layer, random: np.random.Generator, pace: float, frames: int) -> Layer:
        """A similar second object at another position."""
        start = of.motion(0.0)
        moved = replace(
            start,
            x=(start.x + random.uniform(0.3, 0.7)) % 1.0,
            y=(start.y + random.uniform(-0.3, 0.3)) % 1.0,
            size=start.size * random.uniform(0.85, 1.15),
            flip=bool(random.random() < 0.5),
        )
        picture = recolour(of.picture, random, random.uniform(0, 0.4))
        return Layer(picture, of.masks, of.alpha, wander(moved, random, pace, frames))

    def _passer_by(self, of: Layer, random: np.random.Generator, frames: int) -> Layer:
        """A layer that crosses in front of another layer near the middle of the clip."""
        meeting = random.uniform(0.3, 0.8) * frames
        target = of.motion(meeting)
        heading, speed = random.uniform(0, 2 * np.pi), random.uniform(0.1, 0.35)
        layer = self._sprite(random, size=min(target.size, 0.8) * random.uniform(0.6, 1.5))
        start = layer.motion(0.0)

        def pose(time: float) -> Pose:
            way = (time - meeting) * speed
            return replace(start, x=target.x + way * np.cos(heading), y=target.y + way * np.sin(heading))

        return replace(layer, motion=pose)
