"""A short measured run: clicks and tracking on frames that no cache knows."""

import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field

from maskmesh.cli.bench.sessions import disc, draw_frames
from maskmesh.client.async_client import AsyncClient
from maskmesh.status import MeshStatus

NUM_FRAMES = 24

# The pipeline is full after so many frames.
NUM_FIRST = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What the run has measured; times are in seconds."""

    first_click: float
    """Upload excluded; the frame is encoded."""
    click_again: float
    """A second click on the same frame, which is in the cache."""
    first_frame: float
    frame: float
    """Median time between two results, once the pipeline is full."""
    stages: Mapping[str, float]
    """Mean of each stage for such a frame."""
    late_click: float
    """A click on the first frame after all frames were tracked."""
    late_click_encoded: bool
    """Whether the frame had to be encoded again for it."""
    evictions: int
    """Embeddings that encoders evicted during the run."""
    busy_cores: Mapping[str, float] = field(default_factory=dict)
    """Cores that each service kept busy while frames were tracked."""


async def measure(client: AsyncClient) -> Measurement:
    """Click, track, and click again.  Raises the errors of the gateway."""
    frames = draw_frames(NUM_FRAMES, time.time_ns())
    async with client.session() as session:
        await session.append_frames(frames)
        first_click = await _timed(session.add_prompt(0, 1, points=[disc(0, 0)]))
        click_again = await _timed(session.add_prompt(0, 1, points=[disc(0, 0)]))
        before = await client.mesh()
        start = previous = time.perf_counter()
        intervals: list[float] = []
        stages: dict[str, list[float]] = defaultdict(list)
        async for frame in session.propagate():
            now = time.perf_counter()
            intervals.append(now - previous)
            previous = now
            if len(intervals) > NUM_FIRST:
                for stage, seconds in frame.stage_seconds.items():
                    stages[stage].append(seconds)
        seconds = time.perf_counter() - start
        after = await client.mesh()
        late_click = await _timed(session.add_prompt(0, 1, points=[disc(0, 0)]))
        last = await client.mesh()
    return Measurement(
        first_click=first_click,
        click_again=click_again,
        first_frame=intervals[0],
        frame=statistics.median(intervals[NUM_FIRST:]),
        stages={stage: statistics.fmean(values) for stage, values in stages.items()},
        late_click=late_click,
        late_click_encoded=_counter(last, "misses") > _counter(after, "misses"),
        evictions=_counter(last, "evictions") - _counter(before, "evictions"),
        busy_cores=_busy_cores(before, after, seconds),
    )


async def _timed(work: Awaitable[object]) -> float:
    start = time.perf_counter()
    await work
    return time.perf_counter() - start


def _counter(mesh: MeshStatus, name: str) -> int:
    return sum(getattr(service.cache, name) for service in mesh.services if service.cache is not None)


def _busy_cores(before: MeshStatus, after: MeshStatus, seconds: float) -> dict[str, float]:
    """The mean number of cores that each service kept busy, by name; without those that share a name."""
    counts = Counter(service.name for service in before.services)
    known = {s.name: s.usage.cpu_seconds for s in before.services if s.usage and counts[s.name] == 1}
    return {
        service.name: (service.usage.cpu_seconds - known[service.name]) / seconds
        for service in after.services
        if service.usage is not None and service.name in known
    }
