"""A call that streams both ways, as its user needs it: one exception for what ended it, and the right one."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import grpc

T = TypeVar("T")


class StreamCall:
    """The client's end of a bidirectional call.

    gRPC itself raises one of three exceptions for a stream that has ended, by how far a message came.  And a
    message that was on its way then has it forget the status that the server sent, and report an internal
    error (grpc/grpc#36066): so the status is taken down as soon as it is here.
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._ending: grpc.aio.AioRpcError | None = None
        call.add_done_callback(self._take_down)

    async def write(self, message: Any) -> None:
        """Send a message.  Raises AioRpcError for what ended the stream, also where this end cancelled it."""
        try:
            await self._call.write(message)
        except (asyncio.InvalidStateError, grpc.RpcError):
            raise await self.ending() from None
        except asyncio.CancelledError:
            if not self._is_cancelled_alone():
                raise
            raise await self.ending() from None

    async def read(self) -> Any:
        """The next message, ``grpc.aio.EOF`` at the end.  Raises as :meth:`write` does."""
        try:
            return await self._call.read()
        except grpc.RpcError:
            raise await self.ending() from None
        except asyncio.CancelledError:
            if not self._is_cancelled_alone():
                raise
            raise await self.ending() from None

    async def done_writing(self) -> None:
        """Nothing follows."""
        await self._call.done_writing()

    def cancel(self) -> None:
        """End the stream, unless it has ended."""
        self._call.cancel()

    async def ending(self) -> grpc.aio.AioRpcError:
        """What ended a stream that has ended."""
        return self._ending or grpc.aio.AioRpcError(
            await self._call.code(),
            await self._call.initial_metadata() or grpc.aio.Metadata(),
            await self._call.trailing_metadata() or grpc.aio.Metadata(),
            details=await self._call.details(),
        )

    def _take_down(self, _: Any) -> None:
        call = self._call
        code = _known(call.code())
        if code is not None:
            self._ending = grpc.aio.AioRpcError(
                code,
                _known(call.initial_metadata()) or grpc.aio.Metadata(),
                _known(call.trailing_metadata()) or grpc.aio.Metadata(),
                details=_known(call.details()),
            )

    def _is_cancelled_alone(self) -> bool:
        """Whether it is the stream that was cancelled, and not the task that uses it."""
        task = asyncio.current_task()
        return self._call.cancelled() and (task is None or not task.cancelling())


def _known(work: Coroutine[Any, Any, T]) -> T | None:
    """The outcome of a coroutine if it has nothing to wait for, else None."""
    try:
        work.send(None)
    except StopIteration as stop:
        outcome: T = stop.value
        return outcome
    work.close()
    return None
