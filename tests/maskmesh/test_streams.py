"""A stream that the server ends reports the status of the server, even if writes were in progress."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from maskmesh.rpc.stream_call import StreamCall

ROUNDS = 60


async def refuse(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    """Read two messages, respond to the first, then abort."""
    await anext(aiter(requests))
    yield b"begun"
    await anext(aiter(requests))
    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "refused", (("detail-bin", b"why"),))


async def listen(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    """Respond to each message with the number of messages received."""
    count = 0
    async for _ in requests:
        count += 1
        yield b"%d" % count


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server()
    handlers: dict[str, Any] = {
        name: grpc.stream_stream_rpc_method_handler(handler)
        for name, handler in (("Refuse", refuse), ("Listen", listen))
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Streams", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
        yield opened
    await server.stop(0)


def call(channel: grpc.aio.Channel, name: str) -> StreamCall:
    return StreamCall(channel.stream_stream(f"/test.Streams/{name}")())


async def write_on(stream: StreamCall) -> None:
    for _ in range(10_000):
        await stream.write(bytes(2000))
        await asyncio.sleep(0)


async def read_on(stream: StreamCall) -> None:
    while await stream.read() is not grpc.aio.EOF:
        pass


@pytest.mark.parametrize("reads", [False, True])
async def test_server_status_is_not_lost(channel: grpc.aio.Channel, *, reads: bool) -> None:
    for _ in range(ROUNDS):
        stream = call(channel, "Refuse")
        await stream.write(b"configuration")
        assert await stream.read() == b"begun"
        work = [write_on(stream), read_on(stream)] if reads else [write_on(stream)]
        for ended in await asyncio.gather(*work, return_exceptions=True):
            assert isinstance(ended, grpc.aio.AioRpcError)
            assert (ended.code(), ended.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "refused")
            assert ("detail-bin", b"why") in list(ended.trailing_metadata())
        await stream.done_writing()


async def test_cancelled_stream_raises_rpc_error(channel: grpc.aio.Channel) -> None:
    stream = call(channel, "Listen")
    await stream.write(b"one")
    assert await stream.read() == b"1"
    reading = asyncio.ensure_future(stream.read())
    await asyncio.sleep(0.05)
    stream.cancel()
    with pytest.raises(grpc.aio.AioRpcError) as read:
        await reading
    with pytest.raises(grpc.aio.AioRpcError) as written:
        await stream.write(b"two")
    assert read.value.code() is written.value.code() is grpc.StatusCode.CANCELLED


async def test_cancelled_task_raises_cancelled_error(channel: grpc.aio.Channel) -> None:
    stream = call(channel, "Listen")
    await stream.write(b"one")
    await stream.read()
    reading = asyncio.ensure_future(stream.read())
    await asyncio.sleep(0.05)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_stream_ends_with_status_ok(channel: grpc.aio.Channel) -> None:
    stream = call(channel, "Listen")
    await stream.write(b"one")
    await stream.done_writing()
    assert await stream.read() == b"1"
    assert await stream.read() is grpc.aio.EOF
    assert (await stream.ending()).code() is grpc.StatusCode.OK


async def test_cancel_ends_a_write_that_waits_to_connect() -> None:
    # No server listens on this port, and wait_for_ready keeps the call waiting.
    async with grpc.aio.insecure_channel("127.0.0.1:1") as nowhere:
        stream = StreamCall(nowhere.stream_stream("/test.Streams/Listen")(wait_for_ready=True))
        writing = asyncio.ensure_future(stream.write(b"one"))
        await asyncio.sleep(0.05)
        stream.cancel()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(writing, 5)
    assert caught.value.code() is grpc.StatusCode.CANCELLED
    assert stream.was_cancelled


async def test_nothing_is_written_after_the_end(channel: grpc.aio.Channel) -> None:
    stream = call(channel, "Listen")
    await stream.write(b"one")
    await stream.done_writing()
    with pytest.raises(asyncio.InvalidStateError):
        await asyncio.wait_for(stream.write(b"two"), 5)


class Scripted:
    """A fake call whose status the test sets."""

    def __init__(self) -> None:
        self._status = (grpc.StatusCode.OK, "")

    def add_done_callback(self, callback: Any) -> None:
        self._callback = callback

    def becomes(self, code: grpc.StatusCode, details: str, *, tells: bool) -> None:
        self._status = code, details
        if tells:
            self._callback(self)

    async def code(self) -> grpc.StatusCode:
        return self._status[0]

    async def details(self) -> str:
        return self._status[1]

    async def initial_metadata(self) -> None:
        return None

    async def trailing_metadata(self) -> None:
        return None


@pytest.mark.parametrize("placeholder_first", [False, True])
async def test_server_status_replaces_the_internal_placeholder(*, placeholder_first: bool) -> None:
    scripted = Scripted()
    stream = StreamCall(scripted)
    ending = asyncio.ensure_future(stream.ending())
    steps = [
        (grpc.StatusCode.INTERNAL, "Internal error from Core"),
        (grpc.StatusCode.UNAVAILABLE, "gone"),
    ]
    for code, details in steps if placeholder_first else reversed(steps):
        scripted.becomes(code, details, tells=not placeholder_first or code is steps[0][0])
        await asyncio.sleep(0)
    assert (await ending).code() is grpc.StatusCode.UNAVAILABLE
