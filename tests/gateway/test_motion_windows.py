"""Motion in windows: which frames they have, gates, velocities, and the boundaries of actions."""

import numpy as np
import pytest

from gateway.points.motion import motion_settings
from gateway.points.motion_windows import (
    ActionBoundaries,
    MotionSettings,
    MotionWindow,
    MotionWindows,
    Threshold,
    UsedFrame,
)
from maskmesh.errors import InvalidRequest
from maskmesh.v1 import motion_pb2

NO_GATE = Threshold(0, 0)


def settings(**given: object) -> MotionSettings:
    values = {
        "length": 4, "stride": 2, "frames_per_second": 0.0, "velocity_scale": 10.0,
        "still_gate": NO_GATE, "motion_gate": NO_GATE, "tokens": False, "energy_threshold": 0.0,
    } | given  # fmt: skip
    return MotionSettings(**values)  # type: ignore[arg-type]


def frame(index: int, *, rate: float = 20.0, speed: float = 1.0, visible: bool = True) -> UsedFrame:
    # The order of the points differs from frame to frame.
    rows = [(1, 5 + speed * index, 3.0, visible), (7, 9.0, 2 * speed * index, True)][:: (-1) ** index]
    numbers = np.array([number for number, *_ in rows])
    points = np.array([point for _, *point in rows], np.float32)
    return UsedFrame(index, index / rate, numbers, points, np.full((4, 4), index, np.uint8))


def windows_of(frames: list[UsedFrame], chosen: MotionSettings) -> list[MotionWindow]:
    windows = MotionWindows(chosen)
    return [window for each in frames if (window := windows.add(each)) is not None]


def test_windows_begin_every_stride() -> None:
    found = windows_of([frame(n) for n in range(9)], settings())
    assert [(w.window, w.first_frame_index, w.last_frame_index) for w in found] == [
        (0, 0, 3), (1, 2, 5), (2, 4, 7),
    ]  # fmt: skip
    assert found[0].velocities.shape == (3, 2, 2)
    np.testing.assert_allclose(found[0].velocities[:, 0], [[0.1, 0]] * 3, rtol=1e-5)
    np.testing.assert_allclose(found[0].velocities[:, 1], [[0, 0.2]] * 3, rtol=1e-5)
    assert found[0].mean_velocity == pytest.approx(0.15)


def test_a_rate_leaves_frames_out() -> None:
    found = windows_of([frame(n, rate=24) for n in range(24)], settings(frames_per_second=10.0))
    assert [(w.first_frame_index, w.last_frame_index) for w in found] == [(0, 8), (5, 12), (10, 17), (15, 22)]


def test_points_that_come_later_are_left_out_and_hidden_ones_do_not_move() -> None:
    frames = [frame(n, visible=n != 2) for n in range(4)]
    one = np.array([[0, 0, 1]], np.float32)
    late = frames[:2] + [
        f._replace(numbers=np.append(f.numbers, 9), points=np.append(f.points, one, axis=0))
        for f in frames[2:]
    ]
    [window] = windows_of(late, settings())
    assert window.velocities.shape == (3, 2, 2)
    assert not window.velocities[1:, 0].any()
    assert window.velocities[0, 0, 0] == pytest.approx(0.1)


def test_gates() -> None:
    frames = [frame(n) for n in range(4)]
    assert windows_of(frames, settings(still_gate=Threshold(0.01, 0.1)))[0].status == "still"
    assert windows_of(frames, settings(still_gate=Threshold(0.003, 0.1)))[0].status == "moving"
    assert windows_of(frames, settings(motion_gate=Threshold(0.2, 0.1)))[0].status == "unmoved"
    assert windows_of(frames, settings(motion_gate=Threshold(0.2, 0.0)))[0].status == "moving"
    without_greys = [f._replace(grey=None) for f in frames]
    assert windows_of(without_greys, settings(still_gate=Threshold(0.01, 0.1)))[0].status == "moving"


def boundaries(energies: list[float], *, threshold: float = 1.0, step: float = 0.4) -> list[tuple[str, int]]:
    found = ActionBoundaries(threshold)
    events: list[tuple[str, int]] = []
    for number, energy in enumerate(energies):
        empty = np.zeros((1, 0, 2), np.float32)
        window = MotionWindow(number, number, number, number * step, "moving", empty, 0.0)
        events += [(b.kind, b.frame_index) for b in found.add(window, energy, number)]
    return events


def test_an_action_begins_and_ends_after_two_windows() -> None:
    assert boundaries([0, 0, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0], step=0.1) == [("start", 2), ("end", 8)]


def test_one_window_is_no_action() -> None:
    assert boundaries([0, 0, 4, 0, 0, 0]) == []


def test_an_action_has_a_longest_time() -> None:
    events = boundaries([9] * 12)
    assert events[:3] == [("start", 0), ("end", 5), ("start", 7)]


def test_no_threshold_finds_nothing() -> None:
    assert boundaries([9] * 8, threshold=0.0) == []


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (motion_pb2.MotionOptions(window_length=1), "window_length"),
        (motion_pb2.MotionOptions(window_length=257), "window_length"),
        (motion_pb2.MotionOptions(window_length=8, window_stride=9), "window_stride"),
        (motion_pb2.MotionOptions(frames_per_second=-1), "frames_per_second"),
        (motion_pb2.MotionOptions(velocity_scale=float("nan")), "velocity_scale"),
        (motion_pb2.MotionOptions(still_gate=motion_pb2.MotionThreshold(active=-1)), "still_gate.active"),
    ],
)
def test_bad_options(message: motion_pb2.MotionOptions, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        motion_settings(message, field="motion")
    assert caught.value.field == f"motion.{field}"


def test_defaults_are_those_of_the_published_system() -> None:
    chosen = motion_settings(motion_pb2.MotionOptions(), field="motion")
    assert (chosen.length, chosen.stride, chosen.velocity_scale) == (16, 4, 120)
    assert (chosen.still_gate, chosen.motion_gate) == (Threshold(0.005, 0.05), Threshold(0.02, 0.025))
