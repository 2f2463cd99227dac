"""Decoded frames as players display them: rotated, mirrored, and all of one size."""

import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import Interpolation, VideoReformatter

from maskmesh.masks import ByteArray


class Display(NamedTuple):
    """How stored frames are displayed: transposed, then mirrored."""

    is_transposed: bool = False
    """Whether rows become columns."""
    flips_columns: bool = False
    """Whether left and right are exchanged, after the transposition."""
    flips_rows: bool = False
    """Whether top and bottom are exchanged, after the transposition."""

    @classmethod
    def of(cls, frame: Any) -> "Display":
        """The orientation of an ``av.VideoFrame``, by its display matrix.

        The matrix maps a stored (x, y) to (a x + c y, b x + d y); other angles than quarter turns are
        rounded.  Source: ISO/IEC 14496-12, 8.3.2.
        """
        side_data: Mapping[Any, Any] = frame.side_data
        matrix = side_data.get(SideDataType.DISPLAYMATRIX)
        if matrix is None:
            return cls()
        a, b, _, c, d = struct.unpack_from("=5i", bytes(matrix))
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height after the transposition."""
        return (height, width) if self.is_transposed else (width, height)


def frame_pixels(
    frame: Any, display: Display, width: int, height: int, converter: VideoReformatter
) -> ByteArray:
    """The pixels of an ``av.VideoFrame`` as displayed: [height, width, 3], uint8, RGB.

    A frame of another size is scaled, as players do.  ``converter`` is reused for the frames of a video.
    """
    stored = display.size(width, height)
    scaling = None if (frame.width, frame.height) == stored else Interpolation.LANCZOS
    pixels = converter.reformat(frame, *stored, "rgb24", interpolation=scaling).to_ndarray()
    if display.is_transposed:
        pixels = pixels.swapaxes(0, 1)
    if display.flips_columns:
        pixels = pixels[:, ::-1]
    if display.flips_rows:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
