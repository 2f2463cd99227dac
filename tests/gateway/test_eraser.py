"""The eraser: content comes from the frames that show it."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from gateway.erase.eraser import Erased, Eraser, EraserOptions
from gateway.erase.fill import NeighbourFiller
from gateway.erase.push_pull import push_pull
from gateway.erase.sampling import MAX_SIDE, sample
from maskmesh import telemetry
from maskmesh.masks import BoolArray, ByteArray
from maskmesh.telemetry import StageRecorder

HEIGHT, WIDTH = 96, 160
RED, GREY = np.array([255, 0, 0], np.uint8), np.uint8(90)
DRAFT = EraserOptions(flow_side=160, feather=0)


def scene(count: int, speed: float = 2.0) -> list[ByteArray]:
    """Smooth noise that moves to the left."""
    noise = np.random.default_rng(1).uniform(0, 255, (14, 60, 3)).astype(np.float32)
    wide = cv2.resize(noise, (600, HEIGHT), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
    return [np.ascontiguousarray(wide[:, round(n * speed) : round(n * speed) + WIDTH]) for n in range(count)]


def box(x: int, y: int, size: int = 24) -> BoolArray:
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[y : y + size, x : x + size] = True
    return mask


def erase(
    frames: list[ByteArray], masks: list[BoolArray], options: EraserOptions
) -> tuple[list[Erased], list[StageRecorder]]:
    """The frames without what the masks cover, which is painted over before."""
    eraser, found = Eraser(options, NeighbourFiller()), []
    recorders = [StageRecorder() for _ in frames]
    for frame, mask, recorder in zip(frames, masks, recorders, strict=True):
        painted = np.where(mask[..., None], np.uint8(128), frame)
        if (erased := eraser.push(painted, mask, recorder)) is not None:
            found.append(erased)
    while (erased := eraser.pop()) is not None:
        found.append(erased)
    return found, recorders


def error(erased: Erased, frame: ByteArray, mask: BoolArray) -> float:
    """The mean absolute difference inside the mask."""
    return float(np.abs(erased.pixels.astype(int) - frame)[mask].mean())


def test_what_was_seen_before_is_filled_in() -> None:
    """The box stays in place while the scene moves under it."""
    frames, mask = scene(12), box(60, 30)
    found, _ = erase(frames, [np.zeros_like(mask), *[mask] * 11], DRAFT)
    assert (found[0].num_propagated, found[0].num_invented) == (0, 0)
    for erased, frame in zip(found[1:], frames[1:], strict=True):
        assert erased.num_invented == 0
        assert error(erased, frame, mask) < 8
        assert np.array_equal(erased.pixels[~mask], frame[~mask]), "the rest is untouched"


def test_content_stays_sharp() -> None:
    """Content that was seen 20 frames ago was interpolated a few times, not in each frame."""
    frames, mask = scene(24, speed=0.5), box(60, 30)
    found, _ = erase(frames, [np.zeros_like(mask), *[mask] * 23], DRAFT)
    inner = box(64, 34, 16)
    sharpness = [float(np.abs(np.diff(f.astype(int), axis=1))[inner[:, 1:]].mean()) for f in frames[-1:]]
    [truth] = sharpness
    result = float(np.abs(np.diff(found[-1].pixels.astype(int), axis=1))[inner[:, 1:]].mean())
    assert result == pytest.approx(truth, rel=0.15)


def test_a_look_ahead_reads_later_frames() -> None:
    """The hole is there from the first frame on, and uncovers what is behind it."""
    frames = scene(12, speed=0)
    masks = [box(20 + 6 * n, 30) for n in range(12)]
    without, _ = erase(frames, masks, DRAFT)
    ahead, recorders = erase(frames, masks, EraserOptions(flow_side=160, feather=0, look_ahead=6))
    assert without[0].num_invented == 24 * 24
    assert ahead[0].num_invented == 0
    assert error(ahead[0], frames[0], masks[0]) < 2
    assert len(ahead) == len(frames)
    waits = [r.span_name for r in recorders[0].records]
    assert waits == ["erase_flow", "queue look_ahead", "erase_propagate"]


def test_what_no_frame_shows_is_invented_and_carried_on() -> None:
    frames, mask = scene(6, speed=0), box(60, 30)
    found, _ = erase(frames, [mask] * 6, DRAFT)
    assert [erased.num_invented for erased in found] == [24 * 24] * 6
    changes = [
        np.abs(a.pixels.astype(int) - b.pixels)[mask].max()
        for a, b in zip(found[1:], found[:-1], strict=True)
    ]
    assert max(changes) <= 2, "it does not flicker"


def test_another_scene_is_not_filled_from_the_one_before() -> None:
    before, mask = scene(3), box(60, 30)
    after = [np.ascontiguousarray(255 - frame[::-1] // 3) for frame in scene(3)]
    found, _ = erase([*before, *after], [np.zeros_like(mask)] + [mask] * 5, DRAFT)
    assert [erased.num_invented for erased in found] == [0, 0, 0, 576, 528, 480]


def test_brightness_that_changes_is_followed() -> None:
    frames, mask = scene(10), box(60, 30)
    darker = [(frame * (1 - 0.02 * n)).astype(np.uint8) for n, frame in enumerate(frames)]
    found, _ = erase(darker, [np.zeros_like(mask), *[mask] * 9], DRAFT)
    inner = found[-1].pixels[mask].mean() - darker[-1][mask].mean()
    assert abs(inner) < 4


def test_the_edge_is_blended() -> None:
    frames, mask = scene(2), box(60, 30)
    painted = np.where(mask[..., None], np.uint8(0), frames[1])
    eraser = Eraser(EraserOptions(flow_side=160, feather=4), NeighbourFiller())
    eraser.push(frames[0], np.zeros_like(mask), StageRecorder())
    erased = eraser.push(painted, mask, StageRecorder())
    assert erased is not None
    row = erased.pixels[42, 56:72].astype(int).mean(axis=1)
    truth = frames[1][42, 56:72].astype(int).mean(axis=1)
    assert row[4] < 0.5 * truth[4], "the edge is mostly that of the frame"
    assert row[9] == pytest.approx(truth[9], abs=12)


@pytest.mark.parametrize("look_ahead", [0, 3])
def test_the_object_does_not_come_back_by_blending(look_ahead: int) -> None:
    """A red object on a ground of one colour, for many frames."""
    mask = box(60, 30, 40)
    frame = np.where(mask[..., None], RED, GREY)
    options = EraserOptions(flow_side=160, feather=16, look_ahead=look_ahead)
    eraser, reds = Eraser(options, NeighbourFiller()), []
    for _ in range(30):
        if (erased := eraser.push(frame, mask, StageRecorder())) is not None:
            reds.append(float(erased.pixels[mask][:, 0].mean()))
    assert reds[-1] == pytest.approx(reds[0], abs=2)
    assert np.abs(eraser._sources[-1].astype(int) - 90).max() < 8


@pytest.mark.parametrize("border", [0, 1, 2, 20])
def test_the_object_is_never_what_fills_it(border: int) -> None:
    mask = np.zeros((540, 960), np.bool_)
    mask[border : 540 - border, border : 960 - border] = True
    frame = np.where(mask[..., None], RED, GREY)
    for feather in (0, 2):
        eraser = Eraser(EraserOptions(flow_side=320, feather=feather), NeighbourFiller())
        erased = eraser.push(frame, mask, StageRecorder())
        assert erased is not None
        inner = erased.pixels[60:-60, 60:-60].reshape(-1, 3)
        assert np.ptp(inner.mean(axis=0)) < 5, "grey, not red"


SIZES = [(1, 1), (1, 700), (2, 500), (5, 4000), (16, 100), (17, 320), (100, 3000), (640, 32), (33, 40000)]

SCRIPT = """
import numpy as np
from gateway.erase.eraser import Eraser, EraserOptions
from gateway.erase.fill import NeighbourFiller
from maskmesh.telemetry import StageRecorder
for height, width in {sizes}:
    for fast, side, ahead in ((True, 320, 0), (False, 512, 0), (False, 640, 2)):
        for share in (0.3, 1.0):
            mask = np.zeros((height, width), bool)
            mask[: max(round(height * share), 1), : max(round(width * share), 1)] = True
            options = EraserOptions(flow_side=side, fast_flow=fast, look_ahead=ahead)
            eraser = Eraser(options, NeighbourFiller())
            noise = np.random.default_rng(0)
            for _ in range(4):
                frame = noise.integers(0, 256, (height, width, 3), np.uint8)
                eraser.push(frame, mask, StageRecorder())
"""


def test_frames_of_any_shape() -> None:
    """In a process of its own: OpenCV's flow crashes on images that are too small."""
    sizes = [size for size in SIZES if max(size) <= MAX_SIDE]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(sizes=sizes)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_hole_of_many_pixels() -> None:
    """OpenCV limits the rows of a picture, and so of positions."""
    image = np.zeros((8, 8, 3), np.uint8)
    x = np.zeros(9_000_000, np.float32)
    assert sample(image, x, x).shape == (9_000_000, 3)


def test_frames_are_held_for_a_bounded_time() -> None:
    eraser = Eraser(EraserOptions(flow_side=160, look_ahead=3), NeighbourFiller())
    for frame in scene(40):
        eraser.push(frame, box(60, 30), StageRecorder())
    assert len(eraser._sources) == 8
    assert len(eraser._ahead) == 3


def test_stages_are_recorded() -> None:
    frames, mask = scene(2), box(60, 30)
    _, recorders = erase(frames, [mask] * 2, EraserOptions(flow_side=160))
    names = {record.name for recorder in recorders for record in recorder.records}
    assert names == {
        telemetry.ERASE_FLOW,
        telemetry.ERASE_PROPAGATE,
        telemetry.ERASE_FILL,
        telemetry.ERASE_COMPOSE,
    }


def test_push_pull() -> None:
    known = np.ones((9, 14), np.float32)
    known[2:6, 3:9] = 0
    ramp = np.tile(np.arange(14, dtype=np.float32), (9, 1))
    filled = push_pull(ramp, known)
    assert np.array_equal(filled[known > 0], ramp[known > 0])
    assert np.abs(filled - ramp).max() < 3
    assert push_pull(np.stack([ramp, ramp], -1), known).shape == (9, 14, 2)
    assert not push_pull(ramp, np.zeros_like(known)).any()


def test_samples_at_and_between_pixels() -> None:
    image = np.arange(12, dtype=np.float32).reshape(3, 4, 1)
    x, y = np.array([0, 1.5, 9], np.float32), np.array([0, 1, 2], np.float32)
    assert sample(image, x, y)[:, 0].tolist() == pytest.approx([0, 5.5, 11])
    assert sample(image, x[:0], y[:0]).shape == (0, 1)
