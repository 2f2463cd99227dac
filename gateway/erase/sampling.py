"""Values of images at positions between their pixels."""

import cv2
import numpy as np
from numpy.typing import NDArray

from gateway.erase.push_pull import FloatArray

# Positions are a picture of so many columns: OpenCV takes at most MAX_SIDE of them, and of rows.
_WIDTH = 4096
MAX_SIDE = 32766


def sample(image: NDArray[np.uint8] | FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """Bilinear values at N positions in pixels, 0 being the centre of the first one.

    Beyond the edge, they are those of the edge.

    image: [H, W, C]; x and y: [N].  Returns [N, C].
    """
    count = len(x)
    padded = np.zeros((2, -(-max(count, 1) // _WIDTH) * _WIDTH), np.float32)
    padded[0, :count], padded[1, :count] = x, y
    columns, rows = padded.reshape(2, -1, _WIDTH)
    values = cv2.remap(image, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return values.reshape(-1, image.shape[2])[:count].astype(np.float32)
