"""Clips drawn with known motion, so that the true path of every point is known."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmesh.masks import BoolArray, ByteArray

WIDTH, HEIGHT = 384, 288

PathArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DrawnClip:
    """Frames of [HEIGHT, WIDTH, 3], and points of their first frame.

    ``paths`` are [points, frames, 2], x before y, in pixels whose centres are at 0.5; ``visible`` are
    [points, frames].
    """

    name: str
    frames: Sequence[ByteArray]
    paths: PathArray
    visible: BoolArray


@dataclass(frozen=True, slots=True)
class _Layer:
    """A textured layer: a disc, or the background if ``radius`` is 0.

    ``speed`` is in pixels a frame, ``turn`` in degrees a frame, ``growth`` the factor of its size a frame.
    """

    texture: ByteArray
    x: float
    y: float
    radius: float
    speed: tuple[float, float]
    turn: float
    growth: float

    def motion(self, index: int) -> PathArray:
        """The affine motion of the layer from frame 0 to a frame: [2, 3]."""
        angle, scale = math.radians(self.turn * index), self.growth**index
        linear = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        centre = np.array([self.x, self.y])
        shift = centre + np.array(self.speed) * index - linear @ centre
        return np.column_stack([linear, shift])


def drawn_clips(num_frames: int = 24) -> list[DrawnClip]:
    """Four clips: a pan, a turn with a zoom, discs that cross before a still ground, and discs before a
    pan."""
    still, pan = ((0.0, 0.0), 0.0, 1.0), ((3.0, -1.5), 0.0, 1.0)
    turn = ((0.0, 0.0), 1.5, 1.01)
    discs = [(110.0, 150.0, 46.0, (7.0, 0.5), 2.0, 1.0), (280.0, 130.0, 38.0, (-5.0, 1.0), -3.0, 1.0)]
    return [
        _draw("pan", pan, [], num_frames, seed=1),
        _draw("turn and zoom", turn, [], num_frames, seed=2),
        _draw("discs", still, discs, num_frames, seed=3),
        _draw("discs before a pan", pan, discs, num_frames, seed=4),
    ]


def _draw(
    name: str,
    ground: tuple[tuple[float, float], float, float],
    discs: Sequence[tuple[float, float, float, tuple[float, float], float, float]],
    num_frames: int,
    *,
    seed: int,
) -> DrawnClip:
    generator = np.random.default_rng(seed)
    layers = [_Layer(_texture(generator), WIDTH / 2, HEIGHT / 2, 0, *ground)]
    layers += [_Layer(_texture(generator), *disc) for disc in discs]
    rows, columns = np.meshgrid(np.arange(24, HEIGHT, 32), np.arange(24, WIDTH, 32), indexing="ij")
    start = np.stack([columns.ravel(), rows.ravel()], axis=1) + 0.5
    owner = _top(layers, start, 0)
    paths = np.zeros((len(start), num_frames, 2))
    visible = np.zeros((len(start), num_frames), np.bool_)
    for index in range(num_frames):
        for number, layer in enumerate(layers):
            motion = layer.motion(index)
            paths[owner == number, index] = start[owner == number] @ motion[:, :2].T + motion[:, 2]
        here = paths[:, index]
        inside = ((here >= 0) & (here < [WIDTH, HEIGHT])).all(axis=1)
        visible[:, index] = inside & (_top(layers, here, index) == owner)
    return DrawnClip(name, [_frame(layers, index) for index in range(num_frames)], paths, visible)


def _top(layers: Sequence[_Layer], points: NDArray[np.floating[Any]], index: int) -> NDArray[np.int64]:
    """The number of the layer that covers each point on a frame."""
    top = np.zeros(len(points), np.int64)
    for number, layer in enumerate(layers[1:], start=1):
        centre = layer.motion(index) @ [layer.x, layer.y, 1]
        top[np.linalg.norm(points - centre, axis=1) < layer.radius] = number
    return top


def _frame(layers: Sequence[_Layer], index: int) -> ByteArray:
    """A frame, drawn by sampling each layer's texture where its motion came from."""
    columns, rows = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    places = np.stack([columns.ravel(), rows.ravel()], axis=1)
    top = _top(layers, places, index).reshape(HEIGHT, WIDTH)
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for number, layer in enumerate(layers):
        motion = layer.motion(index)
        origin = (places - motion[:, 2]) @ np.linalg.inv(motion[:, :2]).T
        x, y = (origin.T.reshape(2, HEIGHT, WIDTH) - 0.5).astype(np.float32)
        drawn = cv2.remap(layer.texture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        frame[top == number] = drawn[top == number]
    return frame


def _texture(generator: np.random.Generator) -> ByteArray:
    """Coarse and fine noise in colour."""
    texture = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    for cell, strength in ((48, 60), (16, 50), (6, 40)):
        noise = generator.uniform(-1, 1, (HEIGHT // cell + 2, WIDTH // cell + 2, 3)).astype(np.float32)
        texture += strength * cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return (texture + 128).clip(0, 255).astype(np.uint8)
