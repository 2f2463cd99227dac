"""Synthetic shapes and textures, which use no photographs."""

from collections.abc import Callable

import cv2
import numpy as np

from maskmesh.masks import ByteArray, FloatArray

SIDE = 224

Texture = Callable[[np.random.Generator], ByteArray]


def _two_colours(random: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    first = random.uniform(0, 255, 3)
    second = (first + random.uniform(60, 195, 3)) % 255 if random.random() < 0.7 else first * 0.6
    return first.astype(np.float32), second.astype(np.float32)


def _mix(weight: FloatArray, random: np.random.Generator) -> ByteArray:
    """weight: [SIDE, SIDE], 0 to 1; returns [SIDE, SIDE, 3]."""
    first, second = _two_colours(random)
    mixed = first + weight[..., None] * (second - first)
    return np.asarray(mixed.clip(0, 255), dtype=np.uint8)


def _turned_axis(random: np.random.Generator) -> FloatArray:
    angle = random.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    return np.asarray(columns * np.cos(angle) + rows * np.sin(angle), dtype=np.float32)


def plain(random: np.random.Generator) -> ByteArray:
    """One colour with slight grain."""
    grain = random.normal(0.0, random.uniform(0, 0.1), (SIDE, SIDE)).astype(np.float32)
    return _mix(grain, random)


def gradient(random: np.random.Generator) -> ByteArray:
    """A linear gradient between two colours."""
    axis = _turned_axis(random)
    return _mix((axis - axis.min()) / np.ptp(axis), random)


def bands(random: np.random.Generator) -> ByteArray:
    """Parallel bands with hard or soft edges."""
    wave = np.sin(_turned_axis(random) * 2 * np.pi / random.uniform(8, 60))
    return _mix(np.clip(wave * random.uniform(0.6, 6) + 0.5, 0, 1).astype(np.float32), random)


def squares(random: np.random.Generator) -> ByteArray:
    """A checkerboard of two colours."""
    side = random.uniform(7, 40)
    one, other = _turned_axis(random), _turned_axis(random)
    return _mix(((one // side + other // side) % 2).astype(np.float32), random)


def blotches(random: np.random.Generator) -> ByteArray:
    """Noise at one or several scales."""
    total = np.zeros((SIDE, SIDE), dtype=np.float32)
    for _ in range(int(random.integers(1, 4))):
        cells = int(random.integers(3, 60))
        noise = random.uniform(0, 1, (cells, cells)).astype(np.float32)
        total += cv2.resize(noise, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    total = (total - total.min()) / max(float(np.ptp(total)), 1e-3)
    if random.random() < 0.4:
        total = (total > random.uniform(0.35, 0.65)).astype(np.float32)
    return _mix(total, random)


def spots(random: np.random.Generator) -> ByteArray:
    """Discs of one colour on another."""
    weight = np.zeros((SIDE, SIDE), dtype=np.float32)
    radius = random.uniform(3, 16)
    for _ in range(int(random.integers(10, 80))):
        centre = tuple(int(v) for v in random.integers(0, SIDE, 2))
        cv2.circle(weight, centre, int(radius * random.uniform(0.5, 1.5)) + 1, 1.0, -1, cv2.LINE_AA)
    return _mix(weight, random)


# All training textures.  The sample clip uses other textures, and the evaluation none.
TRAINING_TEXTURES: dict[str, Texture] = {
    texture.__name__: texture for texture in (plain, gradient, bands, squares, blotches, spots)
}


def draw_texture(random: np.random.Generator) -> ByteArray:
    """A random training texture: [SIDE, SIDE, 3]."""
    names = sorted(TRAINING_TEXTURES)
    return TRAINING_TEXTURES[names[int(random.integers(len(names)))]](random)


def draw_shape(random: np.random.Generator) -> ByteArray:
    """The alpha of a random shape, [SIDE, SIDE]: an ellipse, a polygon or a smooth blob."""
    alpha = np.zeros((SIDE, SIDE), dtype=np.uint8)
    middle = SIDE // 2
    kind = random.random()
    if kind < 0.3:
        axes = (middle - 4, int((middle - 4) * random.uniform(0.35, 1)))
        cv2.ellipse(alpha, (middle, middle), axes, 0, 0, 360, 255, -1, cv2.LINE_AA)
        return alpha
    corners = int(random.integers(3, 9)) if kind < 0.7 else 24
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    if kind < 0.7:
        angles = angles + random.uniform(-0.5, 0.5, corners) * np.pi / corners
        radii = random.uniform(0.45 if random.random() < 0.5 else 0.9, 1.0, corners)
    else:
        radii = np.ones(corners)
        for harmonic in range(2, 6):
            radii += random.normal(0, 0.35 / harmonic) * np.cos(harmonic * angles + random.uniform(0, 6.3))
        radii = radii.clip(0.25, None) / radii.max()
    points = middle + (middle - 4) * radii[:, None] * np.stack((np.cos(angles), np.sin(angles)), axis=1)
    cv2.fillPoly(alpha, [np.round(points).astype(np.int32)], 255, cv2.LINE_AA)
    return alpha
