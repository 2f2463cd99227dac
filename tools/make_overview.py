"""Make the pictures of the README, an overlay frame and a waterfall, from the output of ``make demo``.

python tools/make_overview.py
"""

import shutil
from pathlib import Path

import av
from PIL import Image

PROJECT = Path(__file__).parent.parent
DEMO, DOCS = PROJECT / "demo", PROJECT / "docs"

FRAME_INDEX = 2  # all three objects are visible


def overlay_frame(frame_index: int) -> Image.Image:
    """One frame of the demo's overlay.  Raises ValueError if the overlay is shorter."""
    with av.open(DEMO / "overlay.mp4") as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index == frame_index:
                image: Image.Image = frame.to_image()
                return image
    raise ValueError(f"the overlay has no frame {frame_index}")


def main() -> None:
    """Write the pictures."""
    overlay_frame(FRAME_INDEX).save(DOCS / "overlay.jpg", quality=90)
    shutil.copy(DEMO / "waterfall.png", DOCS / "waterfall.png")


if __name__ == "__main__":
    main()
