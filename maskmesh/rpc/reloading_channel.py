"""A channel whose certificates may change while it is used."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

from maskmesh.rpc.tls import PemFiles, channel_credentials

# Calls that began with the certificates of before may go on for so long.
LINGER_SECONDS = 24 * 3600.0

# Interceptors may have a call that is not the channel's yet.
SETTLE_SECONDS = 1.0


class ReloadingChannel(grpc.aio.Channel):
    """Makes each call on a channel with the certificates that are there now.

    gRPC takes certificates when a channel is made.  When files have changed another channel is made for the
    calls to come; the one before is closed when its calls are over.
    """

    def __init__(self, files: PemFiles, make: Callable[[grpc.ChannelCredentials], grpc.aio.Channel]) -> None:
        self._files = files
        self._make = make
        self._channel = make(channel_credentials(files.contents))
        self._ending: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "RenewedChannel":
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Close what is open, also for calls that linger."""
        for task in self._ending:
            task.cancel()
        await asyncio.gather(*self._ending, return_exceptions=True)
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """The state of the current channel."""
        return self._current().get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait for another state of the current channel."""
        await self._current().wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Wait until the current channel is ready."""
        await self._current().channel_ready()

    def unary_unary(self, *arguments: Any, **options: Any) -> Any:
        """A callable that makes its calls on the current channel."""
        return self._callable("unary_unary", arguments, options)

    def unary_stream(self, *arguments: Any, **options: Any) -> Any:
        """See :meth:`unary_unary`."""
        return self._callable("unary_stream", arguments, options)

    def stream_unary(self, *arguments: Any, **options: Any) -> Any:
        """See :meth:`unary_unary`."""
        return self._callable("stream_unary", arguments, options)

    def stream_stream(self, *arguments: Any, **options: Any) -> Any:
        """See :meth:`unary_unary`."""
        return self._callable("stream_stream", arguments, options)

    def _callable(self, kind: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        made_on: grpc.aio.Channel | None = None
        made: Any = None

        def call(*call_arguments: Any, **call_options: Any) -> Any:
            nonlocal made_on, made
            if (current := self._current()) is not made_on:
                made_on, made = current, getattr(current, kind)(*arguments, **options)
            return made(*call_arguments, **call_options)

        return call

    def _current(self) -> grpc.aio.Channel:
        if self._files.have_changed():
            task = asyncio.ensure_future(_end(self._channel))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
            self._channel = self._make(channel_credentials(self._files.contents))
        return self._channel


async def _end(channel: grpc.aio.Channel) -> None:
    try:
        await asyncio.sleep(SETTLE_SECONDS)
        await channel.close(LINGER_SECONDS)
    except asyncio.CancelledError:
        await channel.close()
        raise
