"""Draw the sample clip and its true masks: a wheel and a flower cross, a kite leaves and returns.

    python tools/make_sample.py [FOLDER]

Writes ``clip.mp4`` and ``masks.json`` (COCO RLE of the visible part of each object on each frame).  The
formulas below draw everything; only the colours and the landscape depend on the seed.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maskmesh.cli.media.overlay import VideoWriter
from maskmesh.masks import BoolArray, ByteArray, FloatArray, RleMask

FOLDER = Path(__file__).parent / "sample"

WIDTH, HEIGHT, RATE, FRAMES = 640, 360, 30, 90

# The seed of the clip in the repository.
SAMPLE_SEED = 20_26

# A wheel, a flower and a kite; a click on each on frame 0.
CLICKS = {1: (110, 262), 2: (530, 185), 3: (330, 62)}

# The crests of the hills as fractions of the height, and their colours, the farthest first.
HILLS = ((0.5, (96, 112, 104)), (0.66, (70, 92, 66)), (0.82, (52, 66, 40)))

ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)


def rings(u: FloatArray, v: FloatArray) -> FloatArray:
    """Concentric rings around the centre."""
    return np.asarray(np.sin(np.hypot(u, v) / 4.5) > 0.1, dtype=np.float32)


def honeycomb(u: FloatArray, v: FloatArray) -> FloatArray:
    """Cells with walls in three directions."""
    walls = [np.abs((u * np.cos(a) + v * np.sin(a)) % 22 - 11) for a in (0, np.pi / 3, 2 * np.pi / 3)]
    return np.asarray(np.minimum.reduce(walls) < 2.6, dtype=np.float32)


def chevrons(u: FloatArray, v: FloatArray) -> FloatArray:
    """A vertical sequence of chevrons."""
    return np.asarray((v + np.abs(u % 36 - 18)) % 20 < 9, dtype=np.float32)


# The textures of this clip; training uses other textures.
SAMPLE_TEXTURES: dict[str, Callable[[FloatArray, FloatArray], FloatArray]] = {
    texture.__name__: texture for texture in (rings, honeycomb, chevrons)
}


def disc(angle: FloatArray) -> FloatArray:
    """The outline of the wheel: the distance from the centre in pixels, by angle in radians."""
    return np.full_like(angle, 62)


def petals(angle: FloatArray) -> FloatArray:
    """The outline of the flower."""
    return np.asarray(58 + 10 * np.cos(5 * angle), dtype=np.float32)


def diamond(angle: FloatArray) -> FloatArray:
    """The outline of the kite, with slightly rounded corners."""
    return np.asarray(66 / (np.abs(np.cos(angle)) + np.abs(np.sin(angle))) ** 0.8, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Shape:
    """One object: its motion and rotation over a time from 0 to 1, its outline, texture and colours."""

    centre: Callable[[float], tuple[float, float]]
    turns: float
    radius: Callable[[FloatArray], FloatArray]
    texture: str
    colours: tuple[tuple[int, int, int], tuple[int, int, int]]

    def cover(self, time: float) -> FloatArray:
        """The coverage of each pixel: [HEIGHT, WIDTH], 0 to 1."""
        u, v = self._own_axes(time)
        beyond = np.hypot(u, v) - self.radius(np.arctan2(v, u))
        return np.asarray(np.clip(0.5 - beyond, 0, 1), dtype=np.float32)

    def paint(self, time: float) -> FloatArray:
        """The colours of the texture on the whole frame: [HEIGHT, WIDTH, 3]."""
        weight = SAMPLE_TEXTURES[self.texture](*self._own_axes(time))[..., None]
        first, second = (np.array(c, dtype=np.float32) for c in self.colours)
        return first + weight * (second - first)

    def _own_axes(self, time: float) -> tuple[FloatArray, FloatArray]:
        x, y = self.centre(time)
        angle = 2 * np.pi * self.turns * time
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        across, down = COLUMNS - np.float32(x), ROWS - np.float32(y)
        return across * cos + down * sin, down * cos - across * sin


# By obj_id.  The wheel passes in front of the flower; the kite is out of sight for about a second.
SHAPES = {
    1: Shape(
        lambda t: (110 + 420 * t, 262 - 14 * abs(np.sin(3 * np.pi * t))),
        1.0,
        disc,
        "rings",
        ((205, 62, 40), (250, 190, 90)),
    ),
    2: Shape(
        lambda t: (530 - 420 * t, 185 + 10 * np.sin(2 * np.pi * t)),
        -0.4,
        petals,
        "honeycomb",
        ((245, 225, 80), (60, 60, 150)),
    ),
    3: Shape(
        lambda t: (330 + 420 * np.sin(np.pi * t), 62 + 8 * np.sin(4 * np.pi * t)),
        0.15,
        diamond,
        "chevrons",
        ((30, 150, 160), (235, 245, 240)),
    ),
}


def landscape(seed: int) -> FloatArray:
    """Hills under an evening sky, wider than the frame: [HEIGHT, 2 * WIDTH, 3]."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:HEIGHT, : 2 * WIDTH].astype(np.float32)
    fall = (rows / HEIGHT)[..., None]
    tint = random.uniform(-18, 18, (4, 3)).astype(np.float32)
    sky = np.array((120, 150, 205), dtype=np.float32) + tint[0]
    picture = sky + fall * (np.array((110, 40, -60), dtype=np.float32) + tint[1])
    for number, (height, colour) in enumerate(HILLS):
        crest = np.full(2 * WIDTH, height * HEIGHT, dtype=np.float32)
        for wave in range(1, 5):
            phase, size = random.uniform(0, 2 * np.pi), random.uniform(4, 16)
            crest += size / wave * np.sin(columns[0] * wave * (number + 2) / 160 + phase)
        grass = random.normal(0, 7, rows.shape).astype(np.float32)[..., None]
        shade = np.array(colour, dtype=np.float32) + tint[number + 1] + grass
        picture = np.where((rows > crest)[..., None], shade, picture)
    return np.asarray(picture, dtype=np.float32)


def draw(index: int, frames: int, ground: FloatArray) -> tuple[ByteArray, dict[int, BoolArray]]:
    """One frame, [HEIGHT, WIDTH, 3], and the visible mask of each object, [HEIGHT, WIDTH]."""
    time = index / max(frames - 1, 1)
    left = round(60 * time)
    picture = ground[:, left : left + WIDTH].copy()
    masks: dict[int, BoolArray] = {}
    for obj_id in (3, 2, 1):
        cover = SHAPES[obj_id].cover(time)
        picture += cover[..., None] * (SHAPES[obj_id].paint(time) - picture)
        masks = {other: mask & (cover < 0.5) for other, mask in masks.items()}
        masks[obj_id] = cover >= 0.5
    return picture.clip(0, 255).astype(np.uint8), dict(sorted(masks.items()))


def draw_all(frames: int, seed: int) -> Iterator[tuple[ByteArray, dict[int, BoolArray]]]:
    """All frames of a clip; the motion is spread over the number of ``frames``."""
    ground = landscape(seed)
    for index in range(frames):
        yield draw(index, frames, ground)


def make_clip(path: Path, frames: int = FRAMES, *, seed: int = SAMPLE_SEED) -> None:
    """Write a clip without its masks."""
    with VideoWriter(path, frames_per_second=RATE) as writer:
        for picture, _ in draw_all(frames, seed):
            writer.write(picture)


def write_sample(
    video: Path,
    truth: Path,
    frames: Iterable[tuple[ByteArray, dict[int, BoolArray]]],
    *,
    frames_per_second: int,
) -> None:
    """Write a video, and the visible mask of each object on each of its frames as COCO RLE."""
    rows = []
    with VideoWriter(video, frames_per_second=frames_per_second) as writer:
        for index, (picture, masks) in enumerate(frames):
            writer.write(picture)
            objects = [
                {"obj_id": obj_id, "segmentation": RleMask.encode(mask).to_coco()}
                for obj_id, mask in masks.items()
            ]
            rows.append(json.dumps({"frame_index": index, "objects": objects}))
    height, width = picture.shape[:2]
    head = f'"source": "{video.name}", "width": {width}, "height": {height}, "frames": [\n'
    truth.write_text("{" + head + ",\n".join(rows) + "\n]}\n")


if __name__ == "__main__":
    chosen = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    chosen.mkdir(parents=True, exist_ok=True)
    drawn = draw_all(FRAMES, SAMPLE_SEED)
    write_sample(chosen / "clip.mp4", chosen / "masks.json", drawn, frames_per_second=RATE)
