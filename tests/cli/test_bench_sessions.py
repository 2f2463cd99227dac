"""The benchmark of sessions."""

from pathlib import Path

import pytest

from maskmesh import ResourceExhausted
from maskmesh.cli.bench.sessions import BenchOptions, measure_throughput
from tests.gateway.in_process import running_gateway


async def test_sessions_are_deleted_if_there_are_not_enough(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, max_sessions=2) as gateway:
        with pytest.raises(ResourceExhausted):
            await measure_throughput(gateway.client, BenchOptions(2, 1, [3]), 3)
        assert not gateway.trackers[0].sessions
