"""Drawn training images, so that the tests need no data set."""

import numpy as np

from tools.train_micro.data.real_clips import CLIP_SIZE, RealClip
from tools.train_micro.data.sources import SOURCE_SIZE, Source


def drawn_sources(count: int) -> list[Source]:
    """``count`` images of one ellipse on a uniform background."""
    made = []
    rows, columns = np.mgrid[:SOURCE_SIZE, :SOURCE_SIZE] / SOURCE_SIZE - 0.5
    for number in range(count):
        random = np.random.default_rng((5, number))
        wide, high = random.uniform(0.15, 0.4, 2)
        inside = (columns / wide) ** 2 + (rows / high) ** 2 < 1
        colours = random.integers(0, 256, (2, 3))
        picture = np.where(inside[..., None], colours[0], colours[1]).astype(np.uint8)
        made.append(Source(f"drawn-{number}", picture, inside.astype(np.uint8)))
    return made


def drawn_clip(length: int) -> RealClip:
    """Two squares on a grey background: one moves to the right, the other is seen in every other frame."""
    frames = np.full((length, CLIP_SIZE, CLIP_SIZE, 3), 90, dtype=np.uint8)
    labels = np.zeros((length, CLIP_SIZE, CLIP_SIZE), dtype=np.uint8)
    for step in range(length):
        for label, rows, columns in (
            (1, slice(40, 140), slice(20 + 8 * step, 120 + 8 * step)),
            (5, slice(180, 250), slice(30, 110)),
        ):
            if label == 5 and step % 2:
                continue
            frames[step, rows, columns] = 40 * label
            labels[step, rows, columns] = label
    return RealClip("drawn", frames, labels)
