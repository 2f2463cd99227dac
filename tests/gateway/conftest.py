"""Gateways in the test's process."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway.in_process import InProcess, running_gateway


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[InProcess]:
    """A gateway with one tracker and a window of four frames."""
    async with running_gateway(tmp_path, window=4) as running:
        yield running


@pytest.fixture
async def two_trackers(tmp_path: Path) -> AsyncIterator[InProcess]:
    """A gateway with two trackers."""
    async with running_gateway(tmp_path, trackers=2) as running:
        yield running
