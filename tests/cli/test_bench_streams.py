"""The search for the largest number of streams."""

from dataclasses import replace

import pytest

from maskmesh.cli.bench.streams import Load, largest

CARRIED = Load(1, 30.0, 10.0, 20.0, 30.0, 0.0, 0.5, None)


@pytest.mark.parametrize("capacity", [0, 1, 2, 3, 5, 8, 13])
async def test_the_largest_number_is_found(capacity: int) -> None:
    tried: list[int] = []

    async def measure(streams: int) -> Load:
        tried.append(streams)
        return replace(CARRIED, streams=streams, p95_ms=30.0 if streams <= capacity else 40.0)

    assert await largest(measure) == capacity
    assert len(tried) == len(set(tried))


def test_a_stream_that_skips_frames_is_not_carried() -> None:
    assert CARRIED.is_carried
    assert not replace(CARRIED, skipped=0.02).is_carried
    assert not replace(CARRIED, p95_ms=34.0).is_carried
    assert replace(CARRIED, p95_ms=90.0, frames_per_second=10.0).is_carried
