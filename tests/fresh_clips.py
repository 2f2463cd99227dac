"""Clips of which no cache has embeddings, made faster than they could be drawn."""

import itertools
from functools import cache
from pathlib import Path

import av
import numpy as np

from maskmesh.masks import ByteArray
from maskmesh.media.video_reader import read_frames

# The side of a square of noise in the top left corner, which makes the frames differ from all others.
NOISE_SIDE = 16

_seeds = itertools.count(100)


def write_fresh_clip(path: Path, like: Path, frames: int) -> None:
    """Write the first frames of another clip, with a square of noise in the corner; two clips never match."""
    pictures = _pictures(like)[:frames]
    assert len(pictures) == frames
    noise = np.random.default_rng(next(_seeds)).integers(0, 256, (NOISE_SIDE, NOISE_SIDE, 3), np.uint8)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast", "crf": "18"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            marked = picture.copy()
            marked[:NOISE_SIDE, :NOISE_SIDE] = noise
            container.mux(stream.encode(av.VideoFrame.from_ndarray(marked)))
        container.mux(stream.encode())


@cache
def _pictures(path: Path) -> list[ByteArray]:
    return list(read_frames(path))
