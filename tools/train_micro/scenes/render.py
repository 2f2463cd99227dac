"""Scenes of moving flat layers, rendered with the visible masks of their objects."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmesh.masks import BoolArray, ByteArray
from tools.train_micro.data.sources import resized

Affine = NDArray[np.float64]  # [3, 3]
# Layers with a smaller scale are resized before they are warped.
SHRUNK_BELOW = 0.6

Window = tuple[slice, slice]  # rows, columns


@dataclass(frozen=True, slots=True)
class Pose:
    """The position of a layer: its centre and size as fractions of the canvas, its rotation in radians.

    ``size`` is the side of the layer's square; ``aspect`` stretches its width and shrinks its height;
    ``shear`` shifts its rows sideways by this multiple of their distance from the centre.
    """

    x: float
    y: float
    size: float
    turn: float = 0.0
    aspect: float = 1.0
    flip: bool = False
    shear: float = 0.0

    def matrix(self, side: int, canvas: int) -> Affine:
        """The transform from pixels of a square layer of ``side`` to pixels of a square canvas."""
        scale = self.size * canvas / side
        across = scale * self.aspect * (-1 if self.flip else 1)
        along = scale / self.aspect
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        turned = np.array([[cos, -sin], [sin, cos]])
        linear = turned @ np.array([[across, self.shear * along], [0, along]])
        # Coordinates are those of pixel centres: the centre of a square of side n is at (n - 1) / 2.
        middle = np.full(2, (side - 1) / 2)
        centre = np.array([self.x, self.y]) * canvas - 0.5
        matrix = np.eye(3)
        matrix[:2, :2] = linear
        matrix[:2, 2] = centre - linear @ middle
        return matrix


Motion = Callable[[float], Pose]


@dataclass(frozen=True, slots=True)
class Layer:
    """A square image with its alpha, the masks of its objects and its motion.

    ``alpha`` is None for a background that covers the canvas.  A photograph shows any number of objects, a
    texture none, and a cut-out one: its own shape.  A filmed background has a picture and masks for each
    time.
    """

    picture: ByteArray  # [N, N, 3], or [T, N, N, 3]
    masks: ByteArray  # [K, N, N], or [T, K, N, N]; 0 to 255
    alpha: ByteArray | None
    motion: Motion

    @property
    def num_objects(self) -> int:
        """K."""
        return int(self.masks.shape[-3])

    def at(self, time: float) -> tuple[ByteArray, ByteArray]:
        """The picture and the masks at a time."""
        if self.picture.ndim == 3:
            return self.picture, self.masks
        return self.picture[int(time)], self.masks[int(time)]


@dataclass(frozen=True, slots=True)
class Rendered:
    """Frames, and the visible masks of the objects of all layers, in the order of the layers."""

    frames: ByteArray  # [T, S, S, 3]
    masks: BoolArray  # [T, objects, S, S]
    shares: NDArray[np.float64]  # [T, objects], visible fraction of each object's area


def render(layers: Sequence[Layer], camera: Motion, times: Sequence[float], size: int) -> Rendered:
    """Render the layers from back to front at each time.

    ``camera`` is the pose of the whole canvas; (0.5, 0.5) with size 1 is the identity.
    """
    frames = np.empty((len(times), size, size, 3), dtype=np.uint8)
    objects = sum(layer.num_objects for layer in layers)
    masks = np.zeros((len(times), objects, size, size), dtype=np.bool_)
    shares = np.zeros((len(times), objects))
    for step, time in enumerate(times):
        view = camera(time).matrix(size, size)
        canvas = np.zeros((size, size, 3), dtype=np.uint8)
        after = 0
        for layer in layers:
            first, after = after, after + layer.num_objects
            source, layer_masks = layer.at(time)
            side = source.shape[0]
            matrix = view @ layer.motion(time).matrix(side, size)
            if layer.alpha is None:
                window = (slice(0, size), slice(0, size))
                canvas = _warp(source, matrix, window, cv2.BORDER_REFLECT_101)
            else:
                window = _window(matrix, side, size)
                if window[0].stop <= window[0].start or window[1].stop <= window[1].start:
                    continue
                alpha = _warp(layer.alpha, matrix, window, cv2.BORDER_CONSTANT)
                picture = _warp(source, matrix, window, cv2.BORDER_REPLICATE)
                below = canvas[window].astype(np.int16)
                step_up = (picture.astype(np.int16) - below) * (alpha[..., None].astype(np.int32) + 1) // 256
                canvas[window] = below + step_up
                masks[(step, slice(0, first), *window)] &= alpha < 128
            # Beyond its edges, a background is mirrored, and its object with it.
            border = cv2.BORDER_REFLECT_101 if layer.alpha is None else cv2.BORDER_CONSTANT
            for number, mask in enumerate(layer_masks, start=first):
                masks[(step, number, *window)] = _warp(mask, matrix, window, border) > 127
                whole = np.count_nonzero(mask > 127) * abs(np.linalg.det(matrix[:2, :2]))
                shares[step, number] = 1 / max(whole, 1.0)
        frames[step] = canvas
    return Rendered(frames, masks, shares * masks.sum(axis=(2, 3)))


def _window(matrix: Affine, side: int, size: int) -> Window:
    """The rows and columns of the canvas that a layer can cover."""
    corners = np.array([[0, side, 0, side], [0, 0, side, side], [1, 1, 1, 1]])
    reached = (matrix @ corners)[:2]
    low = np.clip(np.floor(reached.min(axis=1)) - 1, 0, size).astype(int)
    high = np.clip(np.ceil(reached.max(axis=1)) + 2, 0, size).astype(int)
    return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))


def _warp(image: ByteArray, matrix: Affine, window: Window, border: int) -> ByteArray:
    """Warp an image into a window of the canvas; matrix maps image pixels to canvas pixels."""
    side, scale = image.shape[0], float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
    if scale < SHRUNK_BELOW:
        # Bilinear sampling skips pixels when it shrinks an image, so the image is averaged first.
        small = max(round(side * scale), 4)
        enlarge = np.diag([side / small, side / small, 1.0])
        enlarge[:2, 2] = side / small / 2 - 0.5
        image, matrix = resized(image, small), matrix @ enlarge
    rows, columns = window
    shifted = matrix[:2].copy()
    shifted[:, 2] -= (columns.start, rows.start)
    size = (columns.stop - columns.start, rows.stop - rows.start)
    warped = cv2.warpAffine(image, shifted, size, flags=cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(warped, dtype=np.uint8)
