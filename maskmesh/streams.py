"""Both ends of gRPC's streams, as their user needs them: one exception for what ended a stream."""

import asyncio
from typing import Any

import grpc


async def write(call: Any, message: Any) -> None:
    """Send a message.

    Raises AioRpcError for what ended the stream, also where this end cancelled it: gRPC itself raises one of
    three exceptions, by how far the message came.
    """
    try:
        await call.write(message)
    except asyncio.InvalidStateError:
        raise await failure(call) from None
    except asyncio.CancelledError:
        if not _is_cancelled_alone(call):
            raise
        raise await failure(call) from None


async def read(call: Any) -> Any:
    """The next message, ``grpc.aio.EOF`` at the end.

    Raises AioRpcError for what ended the stream, also where this end cancelled it.
    """
    try:
        return await call.read()
    except asyncio.CancelledError:
        if not _is_cancelled_alone(call):
            raise
        raise await failure(call) from None


async def failure(call: Any) -> grpc.aio.AioRpcError:
    """What ended a stream that has ended."""
    return grpc.aio.AioRpcError(
        await call.code(),
        await call.initial_metadata() or grpc.aio.Metadata(),
        await call.trailing_metadata() or grpc.aio.Metadata(),
        details=await call.details(),
    )


def _is_cancelled_alone(call: Any) -> bool:
    """Whether it is the stream that was cancelled, and not the task that uses it."""
    task = asyncio.current_task()
    return call.cancelled() and (task is None or not task.cancelling())
