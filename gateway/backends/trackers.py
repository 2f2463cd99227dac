"""The trackers behind a gateway: where they are, and which has the least to do."""

import asyncio
import contextlib
import logging
import random
import socket
import time
from collections.abc import Collection, Sequence
from functools import partial

import grpc

from gateway.backends.tracker_backend import Load, TrackerBackend
from maskmesh.errors import MaskmeshError, ResourceExhausted, Unavailable
from maskmesh.internal.v1 import tracker_pb2
from maskmesh.rpc.channel import open_channel
from maskmesh.rpc.tls import Tls
from maskmesh.types import ModelInfo
from maskmesh.v1 import types_pb2

logger = logging.getLogger(__name__)

# Names are looked up, and loads asked for, no more often than this.
LOOK_UP_SECONDS = 2.0
PROBE_SECONDS = 1.0

_DNS = "dns:///"
_LISTS = ("ipv4:", "ipv6:")


class Trackers:
    """Trackers by address.

    ``target`` is one address, a list of them (``ipv4:10.0.0.1:50052,10.0.0.2:50052``, or without the scheme),
    or a name with an address for each (``dns:///trackers:50052``, as of a headless service).  Used on one
    event loop only.
    """

    def __init__(self, target: str, *, max_message_bytes: int, tls: Tls | None = None) -> None:
        self._target = target
        self._open = partial(open_channel, max_message_bytes=max_message_bytes, notices_hangs=True, tls=tls)
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._backends: dict[str, TrackerBackend] = {}
        self._known: Sequence[str] = ()
        self._looked_up = 0.0
        self._turn = 0

    def backend(self, address: str) -> TrackerBackend:
        """The tracker at an address."""
        if address not in self._backends:
            self._channels[address] = self._open(address)
            self._backends[address] = TrackerBackend(self._channels[address])
        return self._backends[address]

    async def addresses(self) -> Sequence[str]:
        """The addresses of all; those known before where the name cannot be looked up now."""
        if time.monotonic() - self._looked_up >= LOOK_UP_SECONDS:
            try:
                self._known = await _look_up(self._target)
            except OSError as error:
                logger.warning("%s cannot be looked up: %s", self._target, error)
            self._looked_up = time.monotonic()
        return self._known

    async def choose(self, avoid: Collection[str] = ()) -> str:
        """The address of the tracker with the least to do, other than those in ``avoid``.

        Raises ResourceExhausted where all that there are have as many sessions as they may, Unavailable where
        none takes sessions otherwise.
        """
        candidates = [a for a in await self.addresses() if a not in avoid]
        loads = await asyncio.gather(*(self.load(address) for address in candidates))
        open_ones = [
            (load.propagating, load.sessions, random.random(), address)
            for address, load in zip(candidates, loads, strict=True)
            if load is not None and not load.draining and load.sessions < load.max_sessions
        ]
        if not open_ones:
            if any(load is not None and not load.draining for load in loads):
                raise ResourceExhausted(
                    "all trackers have as many sessions as they may", resource="sessions", retry_seconds=5.0
                )
            raise Unavailable("no tracker takes sessions", service="tracker")
        return min(open_ones)[-1]

    async def segment_image(
        self, request: tracker_pb2.SegmentImageRequest, timeout: float | None
    ) -> list[types_pb2.ObjectMask]:
        """Masks on one image, by one tracker after the other; by the next where one is out of reach."""
        addresses = await self.addresses()
        self._turn += 1
        for attempt in range(len(addresses)):
            address = addresses[(self._turn + attempt) % len(addresses)]
            try:
                return await self.backend(address).segment_image(request, timeout)
            except Unavailable:
                if attempt == len(addresses) - 1:
                    raise
        raise Unavailable("no tracker is known", service="tracker")

    async def model(self) -> ModelInfo:
        """The model that the trackers run.  Raises Unavailable where none says."""
        for address in await self.addresses():
            with contextlib.suppress(MaskmeshError, grpc.RpcError):
                return await self.backend(address).model(PROBE_SECONDS)
        raise Unavailable("no tracker says what it runs", service="tracker")

    async def load(self, address: str) -> Load | None:
        """What a tracker has to do, None where it does not say soon enough."""
        try:
            return await self.backend(address).load(PROBE_SECONDS)
        except (MaskmeshError, grpc.RpcError):
            return None

    async def close(self) -> None:
        """Close the connections."""
        for channel in self._channels.values():
            await channel.close()


async def _look_up(target: str) -> Sequence[str]:
    """Raises OSError where a name is not known."""
    if not target.startswith(_DNS):
        for scheme in _LISTS:
            target = target.removeprefix(scheme)
        return target.split(",")
    host, _, port = target.removeprefix(_DNS).rpartition(":")
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    addresses = {info[4][0] for info in found}
    return sorted(f"[{a}]:{port}" if ":" in str(a) else f"{a}:{port}" for a in addresses)
