"""The erased pixels of one frame, and where their content comes from."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from gateway.erase.push_pull import FloatArray
from maskmesh.masks import BoolArray

IntArray = NDArray[np.int32]

# The age of content that no frame has shown.
INVENTED = np.int32(2**30)


@dataclass(slots=True, kw_only=True)
class Hole:
    """The N erased pixels of a frame of [height, width].

    The content of a pixel is that of frame ``number`` at (``source_x``, ``source_y``), plus ``offset``,
    [N, 3], in levels of colour.  ``age`` is the number of frames since it was seen, or until it will be.
    """

    height: int
    width: int
    x: IntArray
    y: IntArray
    left: int
    top: int
    index: IntArray
    """Of the box around the pixels, whose corner is (``left``, ``top``): the position of a pixel in the
    arrays, -1 if it is not erased."""
    number: IntArray
    source_x: FloatArray
    source_y: FloatArray
    offset: FloatArray
    age: IntArray

    @classmethod
    def of(cls, mask: BoolArray) -> Self:
        """The pixels of a mask [H, W], without content."""
        y, x = (each.astype(np.int32) for each in np.nonzero(mask))
        left, top = (int(x.min()), int(y.min())) if len(x) else (0, 0)
        size = (int(y.max()) - top + 1, int(x.max()) - left + 1) if len(x) else (0, 0)
        index = np.full(size, -1, np.int32)
        index[y - top, x - left] = np.arange(len(x), dtype=np.int32)
        return cls(
            height=mask.shape[0],
            width=mask.shape[1],
            x=x,
            y=y,
            left=left,
            top=top,
            index=index,
            number=np.zeros(0, np.int32),
            source_x=np.zeros(0, np.float32),
            source_y=np.zeros(0, np.float32),
            offset=np.zeros((0, 3), np.float32),
            age=np.zeros(0, np.int32),
        )

    def begin(self, number: int) -> None:
        """Make room for the content, which is that of frame ``number`` at the same place."""
        self.number = np.full(len(self), number, np.int32)
        self.source_x, self.source_y = self.x.astype(np.float32), self.y.astype(np.float32)
        self.offset = np.zeros((len(self), 3), np.float32)
        self.age = np.full(len(self), INVENTED, np.int32)

    def __len__(self) -> int:
        return len(self.x)

    def is_inside(self, x: FloatArray, y: FloatArray) -> BoolArray:
        """Whether positions lie in the frame."""
        inside: BoolArray = (x >= 0) & (x <= self.width - 1) & (y >= 0) & (y <= self.height - 1)
        return inside

    def at(self, x: FloatArray, y: FloatArray) -> IntArray:
        """The erased pixels nearest to positions in the frame, -1 where a position is not erased."""
        column, row = np.rint(x).astype(np.int32) - self.left, np.rint(y).astype(np.int32) - self.top
        height, width = self.index.shape
        in_box = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        found = np.full(len(x), -1, np.int32)
        found[in_box] = self.index[row[in_box], column[in_box]]
        return found
