"""Random motions of layers and of the camera; times are frames."""

from dataclasses import replace

import numpy as np

from tools.train_micro.scenes.render import Layer, Motion, Pose

# A position outside the visible area, in sides of the canvas.
FAR_OUT = 9.0


def still(pose: Pose) -> Motion:
    """The motion of a static layer."""
    return lambda _: pose


def wander(start: Pose, random: np.random.Generator, pace: float, frames: int) -> Motion:
    """A smooth motion; some motions reverse, so that objects leave the frame and return."""
    speed = random.uniform(0, 0.13) * pace
    heading = random.uniform(0, 2 * np.pi)
    growth = random.normal(0, 0.05) * pace
    turning = random.normal(0, 0.15) * pace
    returns = random.random() < 0.35
    turning_point = random.uniform(0.35, 0.65) * frames
    if returns:
        speed *= 2.2

    def pose(time: float) -> Pose:
        way = turning_point - abs(time - turning_point) if returns else time
        return replace(
            start,
            x=start.x + speed * way * np.cos(heading),
            y=start.y + speed * way * np.sin(heading),
            size=float(np.clip(start.size * np.exp(growth * time), 0.08, 1.2)),
            turn=start.turn + turning * time,
        )

    return pose


def cut_short(layer: Layer, random: np.random.Generator, frames: int) -> Layer:
    """Let some layers disappear between two frames, as at a cut, and reappear later."""
    begin = max(random.uniform(0.1, 0.6) * frames, 0.5)
    end = begin + random.uniform(0.2, 0.5) * frames
    if random.random() > 0.25:
        return layer

    def pose(time: float) -> Pose:
        there = layer.motion(time)
        return replace(there, x=FAR_OUT) if begin <= time < end else there

    return replace(layer, motion=pose)


def camera(random: np.random.Generator, pace: float) -> Motion:
    """The motion of a hand-held camera."""
    drift_x, drift_y = random.normal(0, 0.02, 2) * pace
    zoom, turn = random.normal(0, 0.015) * pace, random.normal(0, 0.015) * pace
    shake = random.normal(0, 0.008 * pace, (64, 2))

    def pose(time: float) -> Pose:
        jitter = shake[int(time) % len(shake)]
        return Pose(
            0.5 + drift_x * time + jitter[0],
            0.5 + drift_y * time + jitter[1],
            float(np.exp(zoom * time)) * 1.05,
            turn=turn * time,
        )

    return pose
