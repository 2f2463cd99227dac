"""A call that streams requests, as its user needs it: one exception for what ended it, and the right one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

import grpc

T = TypeVar("T")

# How often a stream that broke is begun again without a result meanwhile, and after how long each time.
RESUMPTIONS = 10
RESUME_SECONDS = 0.5

# What gRPC reports where a message did not go out, whatever the server said.
_PLACEHOLDER = "Internal error from Core"
_TURNS = 20
_TURN_SECONDS = 0.01


class StreamCall:
    """The client's end of a call that streams requests, and perhaps answers.

    gRPC itself raises one of three exceptions for a stream that has ended, by how far a message came.  And a
    message that was on its way then has it forget the status that the server sent, and report an internal
    error (grpc/grpc#36066): so the status is taken down as soon as it is here.
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._status: grpc.aio.AioRpcError | None = None
        self._ended = asyncio.Event()
        self._is_connected = False
        self.was_cancelled = False
        """Whether this end cancelled it, as a sender does that is cancelled with a message on its way."""
        call.add_done_callback(self._take_down)

    async def write(self, message: Any) -> None:
        """Send a message.

        Raises AioRpcError for what ended the stream, also where this end cancelled it, and InvalidStateError
        after :meth:`done_writing`.
        """
        if not self._is_connected:
            await self._connect()
        async with self._raising_ending():
            await self._call.write(message)

    async def read(self) -> Any:
        """The next message, ``grpc.aio.EOF`` at the end.  Raises AioRpcError for what ended the stream."""
        async with self._raising_ending():
            return await self._call.read()

    async def answer(self) -> Any:
        """The one answer to all that was written, where there is one.  Raises as :meth:`read` does."""
        async with self._raising_ending():
            return await self._call

    async def done_writing(self) -> None:
        """Nothing follows."""
        await self._call.done_writing()

    def cancel(self) -> None:
        """End the stream, unless it has ended."""
        self.was_cancelled = self._call.cancel() or self.was_cancelled

    async def ending(self) -> grpc.aio.AioRpcError:
        """What ended the stream; waits until it has ended."""
        await self._ended.wait()
        for _ in range(_TURNS):
            if self._status is not None and not _is_placeholder(self._status):
                break
            # The status may come after the message that did not go out.
            await asyncio.sleep(_TURN_SECONDS)
            self._take_down(None)
        assert self._status is not None, "a stream that has ended has a status"
        return self._status

    @contextlib.asynccontextmanager
    async def _raising_ending(self) -> AsyncIterator[None]:
        """Raise what ended the stream for whatever gRPC raises then."""
        try:
            yield
        except asyncio.InvalidStateError:
            if not self._call.done():
                raise  # it has not ended: written to after done_writing
            raise await self.ending() from None
        except grpc.RpcError:
            raise await self.ending() from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._call.cancelled() and (task is None or not task.cancelling()):
                raise await self.ending() from None  # the stream was cancelled, and not who uses it
            self.was_cancelled = True
            raise

    async def _connect(self) -> None:
        """Wait until something can be written: gRPC would wait on for a stream that is cancelled before."""
        waits = [asyncio.ensure_future(w) for w in (self._call.wait_for_connection(), self._ended.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        if self._ended.is_set():
            raise await self.ending()
        self._is_connected = True

    def _take_down(self, _: Any) -> None:
        call = self._call
        code = _known(call.code())
        if code is not None:
            found = grpc.aio.AioRpcError(
                code,
                _known(call.initial_metadata()) or grpc.aio.Metadata(),
                _known(call.trailing_metadata()) or grpc.aio.Metadata(),
                details=_known(call.details()),
            )
            if self._status is None or not _is_placeholder(found):
                self._status = found
        self._ended.set()


def _is_placeholder(error: grpc.aio.AioRpcError) -> bool:
    return error.code() is grpc.StatusCode.INTERNAL and error.details() == _PLACEHOLDER


def _known(work: Coroutine[Any, Any, T]) -> T | None:
    """The outcome of a coroutine if it has nothing to wait for, else None."""
    try:
        work.send(None)
    except StopIteration as stop:
        outcome: T = stop.value
        return outcome
    work.close()
    return None
