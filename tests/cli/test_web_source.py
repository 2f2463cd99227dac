"""A source that is open in the page keeps its session."""

import asyncio
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

from maskmesh import Unavailable
from maskmesh.cli.web.opened_source import OpenedSource


async def test_session_is_renewed_while_the_source_is_open(tmp_path: Path) -> None:
    renewals = 0

    async def get_state() -> None:
        nonlocal renewals
        renewals += 1
        if renewals == 1:
            raise Unavailable("the gateway restarts")

    async def delete() -> None:
        """The page deletes the session of a source that is closed."""

    session = SimpleNamespace(session_id="a", ttl=timedelta(seconds=0.03), get_state=get_state, delete=delete)
    source = OpenedSource("a.mp4", tmp_path / "folder", tmp_path / "a.mp4", session)  # type: ignore[arg-type]
    async with asyncio.timeout(5):
        while renewals < 3:
            await asyncio.sleep(0.005)
    await source.close()
    known = renewals
    await asyncio.sleep(0.05)
    assert renewals == known
