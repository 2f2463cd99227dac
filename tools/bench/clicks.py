"""Latency of clicks on encoded frames, while another session keeps encoder and tracker busy."""

import asyncio
import contextlib
import itertools
import os
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from maskmesh import AsyncClient
from maskmesh.cli.bench.sessions import disc, draw_frames
from maskmesh.cli.mesh.local_mesh import LocalMesh, MeshOptions
from maskmesh.client.session import VideoSession
from tools.bench.contenders import Click

# Number of clicked frames, in rotation.
FRAMES = 6

WARM_UP_CLICKS = 10

# Pause between two clicks, so that clicks fall on random times in the steps of the other session.
PAUSE_SECONDS = 0.05

# After this time, the propagation is in progress, with a full read-ahead.
SETTLE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class ClickTimes:
    """Latencies of clicks in seconds."""

    idle: list[float]
    busy: list[float]

    @property
    def ratio(self) -> float:
        """Ratio of the median latencies, busy to idle."""
        return statistics.median(self.busy) / statistics.median(self.idle)

    @property
    def ratio_p99(self) -> float:
        """Ratio of the 99th percentiles, busy to idle."""
        return _p99(self.busy) / _p99(self.idle)

    def to_json(self) -> dict[str, Any]:
        """The results for ``bench.json``, in milliseconds."""
        return {
            "clicks": len(self.busy),
            "idle_median_ms": statistics.median(self.idle) * 1e3,
            "idle_p99_ms": _p99(self.idle) * 1e3,
            "busy_median_ms": statistics.median(self.busy) * 1e3,
            "busy_p99_ms": _p99(self.busy) * 1e3,
        }


def _p99(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100, method="inclusive")[-1]


async def run_clicks(
    options: MeshOptions, video: Path, where: Click, *, count: int, busy_frames: int
) -> ClickTimes:
    """Click on an idle mesh, then during a propagation; encoder and tracker have one core each."""
    first, second = sorted(os.sched_getaffinity(0))[:2]
    options = replace(options, cores={"encoder": {first}, "tracker": {second}})
    async with (
        LocalMesh(options) as mesh,
        AsyncClient(mesh.endpoint) as client,
        client.session() as session,
    ):
        await session.append_video(video)
        for index in range(FRAMES):
            await session.add_prompt(index, 0, points=[where])
        await _click(session, where, WARM_UP_CLICKS)
        idle = await _click(session, where, count)
        busy = asyncio.ensure_future(_keep_busy(client, draw_frames(busy_frames, time.time_ns())))
        try:
            await asyncio.sleep(SETTLE_SECONDS)
            times = ClickTimes(idle, await _click(session, where, count))
        finally:
            was_busy = not busy.done()
            busy.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await busy
        assert was_busy
        return times


async def _click(session: VideoSession, where: Click, count: int) -> list[float]:
    seconds = []
    for frame in itertools.islice(itertools.cycle(range(FRAMES)), count):
        start = time.perf_counter()
        await session.add_prompt(frame, 0, points=[where], clear_previous=True)
        seconds.append(time.perf_counter() - start)
        await asyncio.sleep(PAUSE_SECONDS)
    return seconds


async def _keep_busy(client: AsyncClient, frames: list[bytes]) -> None:
    """Propagate through frames that are not in a cache."""
    async with client.session() as session:
        await session.append_frames(frames)
        await session.add_prompt(0, 1, points=[disc(0, 0)])
        async for _ in session.propagate():
            pass
    raise AssertionError("too few frames to keep the mesh busy")
