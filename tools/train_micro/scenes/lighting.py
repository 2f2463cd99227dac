"""Random lighting, blur and grain, as different cameras have them."""

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmesh.masks import ByteArray


def recolour(picture: ByteArray, random: np.random.Generator, strength: float) -> ByteArray:
    """Change the lighting: gain and offset of each channel, saturation and gamma."""
    if random.random() < 0.5 * strength:
        gamma = np.exp(random.uniform(-0.5, 0.5) * strength)
        table = (255 * np.linspace(0, 1, 256) ** gamma).round().astype(np.uint8)
        picture = table[picture]
    saturation = 1 + random.uniform(-0.6, 0.5) * strength
    gain = 1 + (random.uniform(-0.25, 0.25) + random.uniform(-0.15, 0.15, 3)) * strength
    offset = 255 * (random.uniform(-0.12, 0.12) + random.uniform(-0.05, 0.05, 3)) * strength
    channels = saturation * np.eye(3) + (1 - saturation) / 3
    return mix_channels(picture, np.hstack((gain[:, None] * channels, offset[:, None])))


def mix_channels(picture: ByteArray, matrix: NDArray[np.float64]) -> ByteArray:
    """Apply a [3, 4] matrix to the colours of [..., 3]; values are clipped to 0 to 255."""
    flat = picture.reshape(-1, picture.shape[-2], 3)
    return np.asarray(cv2.transform(flat, matrix), dtype=np.uint8).reshape(picture.shape)


def degrade(frames: ByteArray, random: np.random.Generator) -> ByteArray:
    """Simulate a camera for a whole clip: lighting, blur and grain."""
    frames = recolour(frames, random, 0.8)
    if random.random() < 0.05:
        frames = mix_channels(frames, np.hstack((np.full((3, 3), 1 / 3), np.zeros((3, 1)))))
    if random.random() < 0.2:
        sigma = random.uniform(0.4, 1.3)
        frames = np.stack([np.asarray(cv2.GaussianBlur(f, (0, 0), sigma)) for f in frames])
    if random.random() < 0.2:
        grain = random.standard_normal(frames.shape, dtype=np.float32) * np.float32(random.uniform(2, 12))
        frames = (frames + grain).clip(0, 255).astype(np.uint8)
    return frames
