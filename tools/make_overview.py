"""Make the picture of the README from the output of ``make demo``: an overlay frame above a waterfall.

python tools/make_overview.py [OUT]
"""

import sys
from pathlib import Path

import av
from PIL import Image

PROJECT = Path(__file__).parent.parent
DEMO = PROJECT / "demo"
OUT = PROJECT / "docs" / "overview.png"

FRAME = 2
WIDTH = 900


def overlay(frame_index: int) -> Image.Image:
    """One frame of the demo's overlay."""
    with av.open(DEMO / "overlay.mp4") as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index == frame_index:
                image: Image.Image = frame.to_image()
                return image
    raise ValueError(f"the overlay has no frame {frame_index}")


def main() -> None:
    """Write the picture."""
    parts = [overlay(FRAME), Image.open(DEMO / "waterfall.png").convert("RGB")]
    parts = [part.resize((WIDTH, part.height * WIDTH // part.width)) for part in parts]
    picture = Image.new("RGB", (WIDTH, sum(part.height for part in parts)), "white")
    top = 0
    for part in parts:
        picture.paste(part, (0, top))
        top += part.height
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    picture.quantize(128).save(out, optimize=True)


if __name__ == "__main__":
    main()
