"""Completion of values that are known in parts of an image only, by a pyramid."""

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


def push_pull(values: FloatArray, known: FloatArray) -> FloatArray:
    """Values everywhere: where they are not known, those of ever coarser means around them.

    values: [H, W] or [H, W, C]; known: [H, W], 0 to 1.  Returns the shape of ``values``; it is 0 if nothing
    is known.  Source: Gortler et al., "The Lumigraph", 1996.
    """
    height, width = known.shape
    weights = known[..., None] if values.ndim == 3 else known
    if min(height, width) <= 2 or known.min() > 0:
        mean = (values * weights).sum((0, 1)) / max(float(known.sum()), 1e-6)
        return np.asarray(weights * values + (1 - weights) * mean, np.float32)
    size = ((width + 1) // 2, (height + 1) // 2)
    sums = cv2.resize(values * weights, size, interpolation=cv2.INTER_AREA)
    counts = cv2.resize(known, size, interpolation=cv2.INTER_AREA)
    divisor = np.maximum(counts, 1e-6)
    means = sums / (divisor[..., None] if values.ndim == 3 else divisor)
    coarse = push_pull(np.asarray(means, np.float32), np.minimum(counts * 4, 1))
    fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(weights * values + (1 - weights) * fine, np.float32)
