"""Make the pictures of the README, frames of overlays and a waterfall, from the output of ``make demo``.

python tools/make_overview.py
"""

import shutil
from pathlib import Path

import av
from PIL import Image

PROJECT = Path(__file__).parent.parent
DEMO, DOCS = PROJECT / "demo", PROJECT / "docs"

# By overlay: a frame on which all three objects are visible.
FRAME_INDICES = {"overlay": 2, "table": 10}


def overlay_frame(name: str, frame_index: int) -> Image.Image:
    """One frame of an overlay of the demo.  Raises ValueError if the overlay is shorter."""
    with av.open(DEMO / f"{name}.mp4") as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index == frame_index:
                image: Image.Image = frame.to_image()
                return image
    raise ValueError(f"{name}.mp4 has no frame {frame_index}")


def main() -> None:
    """Write the pictures."""
    for name, frame_index in FRAME_INDICES.items():
        overlay_frame(name, frame_index).save(DOCS / f"{name}.jpg", quality=90)
    shutil.copy(DEMO / "waterfall.png", DOCS / "waterfall.png")


if __name__ == "__main__":
    main()
