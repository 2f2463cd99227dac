"""Drawn training images, so that the tests need no data set."""

import numpy as np

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
        made.append(Source(f"drawn-{number}", picture, inside.astype(np.uint8) * 255))
    return made
