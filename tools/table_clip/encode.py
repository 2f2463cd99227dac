"""Encode the rendered table clip, with grain, and its true masks.

    python -m tools.table_clip.encode RENDERED [FOLDER]

Reads what ``tools.table_clip.render`` wrote; writes ``table.mp4`` and ``table_masks.json``.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from maskmesh.masks import BoolArray, ByteArray
from tools.make_sample import FOLDER, write_sample
from tools.table_clip.clip import CLICKS, FRAMES, ID_STEP, RATE

# Standard deviation of the grain of the sensor, in grey values.
GRAIN = 2.0


def read_rendered(folder: Path) -> Iterator[tuple[ByteArray, dict[int, BoolArray]]]:
    """Each frame, [H, W, 3], and the visible mask of each object, [H, W].

    Raises FileNotFoundError for a frame that is not rendered.
    """
    random = np.random.default_rng(0)
    for index in range(FRAMES):
        picture = np.asarray(Image.open(folder / "frames" / f"{index:05d}.png").convert("RGB"))
        ids = np.asarray(Image.open(folder / "ids" / f"{index:05d}.png").convert("L"))
        grain = random.normal(0, GRAIN, (*picture.shape[:2], 1))
        noisy = (picture + grain).round().clip(0, 255).astype(np.uint8)
        yield noisy, {obj_id: ids == obj_id * ID_STEP for obj_id in CLICKS}


if __name__ == "__main__":
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else FOLDER
    rendered = read_rendered(Path(sys.argv[1]))
    write_sample(folder / "table.mp4", folder / "table_masks.json", rendered, frames_per_second=RATE)
