"""A session has at most one open stream of frames."""

import asyncio

import pytest
from opentelemetry.trace import INVALID_SPAN_CONTEXT

import gateway.sessions.session
from gateway.api_keys import ANYBODY
from gateway.frames.frame_ring import FrameRing
from gateway.sessions.session import GatewaySession, OpenStream
from maskmesh import SessionBusy
from maskmesh.errors import MaskmeshError
from maskmesh.storage.session_record import Owner


class Stream(OpenStream):
    def stop(self, error: MaskmeshError) -> None:
        """Does nothing: no work is in progress."""


@pytest.fixture
def session() -> GatewaySession:
    return GatewaySession(
        "a session", 60.0, FrameRing(), Owner("tracker:1", 1), ANYBODY, INVALID_SPAN_CONTEXT
    )


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.sessions.session, "OPEN_STREAM_SECONDS", 0.05)


async def take(session: GatewaySession, stream: OpenStream) -> None:
    async with session.streaming(stream, takes_over=False):
        pass


async def test_active_stream_refuses_another_one(session: GatewaySession) -> None:
    alive = Stream()
    async with session.streaming(alive, takes_over=False):
        with pytest.raises(SessionBusy):
            await take(session, Stream())
        assert session.is_streaming(alive)
        assert alive.interruption is None
    await take(session, Stream())


async def test_new_stream_waits_for_an_ending_one(session: GatewaySession) -> None:
    ending = Stream()
    async with session.streaming(ending, takes_over=False):
        ending.is_ending = True
        waiting = asyncio.ensure_future(take(session, Stream()))
        await asyncio.sleep(0.2)
        assert not waiting.done()
    await asyncio.wait_for(waiting, 5)


async def test_ending_stream_timeout(session: GatewaySession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.sessions.session, "ENDING_STREAM_SECONDS", 0.2)
    stuck = Stream()
    async with session.streaming(stuck, takes_over=False):
        stuck.is_ending = True
        with pytest.raises(SessionBusy):
            await take(session, Stream())


async def test_takeover_interrupts_the_open_stream(session: GatewaySession) -> None:
    old, new = Stream(), Stream()
    async with session.streaming(old, takes_over=False):
        async with session.streaming(new, takes_over=True):
            assert isinstance(old.interruption, SessionBusy)
            assert session.is_streaming(new)
        assert not session.is_streaming(old)
