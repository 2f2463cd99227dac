"""A session has one place for a stream of frames."""

import asyncio

import pytest
from opentelemetry.trace import INVALID_SPAN_CONTEXT

import gateway.sessions.session
from gateway.api_keys import ANYBODY
from gateway.frames.frame_ring import FrameRing
from gateway.sessions.session import GatewaySession, OpenStream
from maskmesh import SessionBusy
from maskmesh.errors import MaskmeshError
from maskmesh.storage.session_store import Owner


class Stream(OpenStream):
    def stop(self, error: MaskmeshError) -> None:
        """Nothing is under way."""


@pytest.fixture
def session() -> GatewaySession:
    return GatewaySession(
        "a session", 60.0, FrameRing(), Owner("tracker:1", 1), ANYBODY, INVALID_SPAN_CONTEXT
    )


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.session, "MOMENT_SECONDS", 0.05)


async def take(session: GatewaySession, stream: OpenStream) -> None:
    async with session.streaming(stream, takes_over=False):
        pass


async def test_a_stream_that_is_alive_is_left_alone(session: GatewaySession) -> None:
    alive = Stream()
    async with session.streaming(alive, takes_over=False):
        with pytest.raises(SessionBusy):
            await take(session, Stream())
        assert session.holds(alive)
        assert alive.interruption is None
    await take(session, Stream())


async def test_one_that_is_ending_is_waited_for(session: GatewaySession) -> None:
    ending = Stream()
    async with session.streaming(ending, takes_over=False):
        ending.is_ending = True
        waiting = asyncio.ensure_future(take(session, Stream()))
        await asyncio.sleep(0.2)
        assert not waiting.done()
    await asyncio.wait_for(waiting, 5)


async def test_but_not_for_ever(session: GatewaySession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.session, "ENDING_SECONDS", 0.2)
    stuck = Stream()
    async with session.streaming(stuck, takes_over=False):
        stuck.is_ending = True
        with pytest.raises(SessionBusy):
            await take(session, Stream())


async def test_one_that_takes_over_interrupts(session: GatewaySession) -> None:
    old, new = Stream(), Stream()
    async with session.streaming(old, takes_over=False):
        async with session.streaming(new, takes_over=True):
            assert isinstance(old.interruption, SessionBusy)
            assert session.holds(new)
        assert not session.holds(old)
