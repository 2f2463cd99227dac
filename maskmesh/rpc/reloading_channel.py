"""A channel whose certificates may change while it is used."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

from maskmesh.aio import TaskSet
from maskmesh.rpc.tls import PemFiles, channel_credentials

# Calls with the previous certificates may continue for this long.
GRACE_SECONDS = 24 * 3600.0

# A call may have been made and not yet begun on its channel; the channel is closed after that.
SETTLE_SECONDS = 1.0


class ReloadingChannel(grpc.aio.Channel):
    """Makes each call on a channel with the present certificates.

    gRPC takes certificates when a channel is made.  When the files change, later calls use a new channel; the
    previous one is closed when its calls have ended.
    """

    def __init__(self, files: PemFiles, make: Callable[[grpc.ChannelCredentials], grpc.aio.Channel]) -> None:
        self._files = files
        self._make = make
        self._channel = make(channel_credentials(files.contents))
        self._closing = TaskSet()

    async def __aenter__(self) -> "ReloadingChannel":
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Close all channels, also those with calls in their grace period."""
        await self._closing.close()
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
        channel: grpc.aio.Channel | None = None
        multicallable: Any = None

        def call(*call_arguments: Any, **call_options: Any) -> Any:
            nonlocal channel, multicallable
            if (current := self._current()) is not channel:
                channel, multicallable = current, getattr(current, kind)(*arguments, **options)
            return multicallable(*call_arguments, **call_options)

        return call

    def _current(self) -> grpc.aio.Channel:
        if self._files.have_changed():
            self._closing.spawn(_close_later(self._channel))
            self._channel = self._make(channel_credentials(self._files.contents))
        return self._channel


async def _close_later(channel: grpc.aio.Channel) -> None:
    try:
        await asyncio.sleep(SETTLE_SECONDS)
        await channel.close(GRACE_SECONDS)
    except asyncio.CancelledError:
        await channel.close()
        raise
