"""A call that streams requests, with one exception for the status that ended it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

import grpc

T = TypeVar("T")

# gRPC reports this if a message was not sent, whatever the server's status is.
_PLACEHOLDER = "Internal error from Core"
_POLLS = 20
_POLL_SECONDS = 0.01


class StreamCall:
    """The client's end of a call that streams requests, and perhaps responses.

    gRPC raises one of three exceptions for a stream that has ended, depending on the progress of a message,
    and a message in progress makes it replace the server's status by an internal error (grpc/grpc#36066).
    This class records the status as soon as it arrives, and always raises it as AioRpcError.
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._status: grpc.aio.AioRpcError | None = None
        self._ended = asyncio.Event()
        self._is_connected = False
        self.was_cancelled = False
        """Whether this end cancelled it, also by the cancellation of a write in progress."""
        call.add_done_callback(self._record_status)

    async def write(self, message: Any) -> None:
        """Send a message.

        Raises AioRpcError if the stream has ended, also if this end cancelled it, and InvalidStateError after
        :meth:`done_writing`.
        """
        if not self._is_connected:
            await self._connect()
        async with self._raising_status():
            await self._call.write(message)

    async def read(self) -> Any:
        """The next message, ``grpc.aio.EOF`` at the end.  Raises AioRpcError if the stream has failed."""
        async with self._raising_status():
            return await self._call.read()

    async def answer(self) -> Any:
        """The response of a call that has a single one.  Raises as :meth:`read` does."""
        async with self._raising_status():
            return await self._call

    async def done_writing(self) -> None:
        """Send no more messages."""
        await self._call.done_writing()

    def cancel(self) -> None:
        """Cancel the stream, unless it has ended."""
        self.was_cancelled = self._call.cancel() or self.was_cancelled

    async def ending(self) -> grpc.aio.AioRpcError:
        """The status that ended the stream; waits until it has ended."""
        await self._ended.wait()
        for _ in range(_POLLS):
            if self._status is not None and not _is_placeholder(self._status):
                break
            # The status may arrive after the failure of the message.
            await asyncio.sleep(_POLL_SECONDS)
            self._record_status(None)
        assert self._status is not None, "a stream that has ended has a status"
        return self._status

    @contextlib.asynccontextmanager
    async def _raising_status(self) -> AsyncIterator[None]:
        """Raise the stream's status in place of gRPC's exceptions."""
        try:
            yield
        except asyncio.InvalidStateError:
            if not self._call.done():
                raise  # a write after done_writing
            raise await self.ending() from None
        except grpc.RpcError:
            raise await self.ending() from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._call.cancelled() and (task is None or not task.cancelling()):
                raise await self.ending() from None  # the stream was cancelled, not the caller
            self.was_cancelled = True
            raise

    async def _connect(self) -> None:
        """Wait for the connection: gRPC would wait for ever if the stream is cancelled before."""
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

    def _record_status(self, _: Any) -> None:
        call = self._call
        code = result_now(call.code())
        if code is not None:
            status = grpc.aio.AioRpcError(
                code,
                result_now(call.initial_metadata()) or grpc.aio.Metadata(),
                result_now(call.trailing_metadata()) or grpc.aio.Metadata(),
                details=result_now(call.details()),
            )
            if self._status is None or not _is_placeholder(status):
                self._status = status
        self._ended.set()


def _is_placeholder(error: grpc.aio.AioRpcError) -> bool:
    return error.code() is grpc.StatusCode.INTERNAL and error.details() == _PLACEHOLDER


def result_now(work: Coroutine[Any, Any, T]) -> T | None:
    """The result of a coroutine that does not wait; None for one that does."""
    try:
        work.send(None)
    except StopIteration as stop:
        outcome: T = stop.value
        return outcome
    work.close()
    return None
