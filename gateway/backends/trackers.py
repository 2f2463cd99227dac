"""The trackers behind a gateway: discovery, and selection of the least loaded tracker."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import Message

from gateway.backends.service_statuses import statuses_of
from gateway.backends.targets import resolve
from gateway.backends.tracker_backend import Load, TrackerBackend
from maskmesh.errors import MaskmeshError, ResourceExhausted, Unavailable
from maskmesh.internal.v1 import tracker_pb2
from maskmesh.rpc.channel import MESH_SILENCE_SECONDS, open_channel
from maskmesh.rpc.client_calls import TimedResponse
from maskmesh.scheduling.admission import SESSION_SECONDS, retry_after
from maskmesh.status import ServiceStatus
from maskmesh.types import ModelInfo, Tls

logger = logging.getLogger(__name__)

# DNS names are resolved at most this often.
RESOLVE_SECONDS = 2.0
PROBE_SECONDS = 1.0


class Trackers:
    """Trackers by address.

    ``target`` is one address, a comma-separated list of addresses (``ipv4:10.0.0.1:50052,10.0.0.2:50052``,
    the scheme is optional), or a DNS name that resolves to the addresses of all trackers
    (``dns:///trackers:50052``, for example of a headless service).  Used on one event loop only.
    """

    def __init__(self, target: str, *, max_message_bytes: int, tls: Tls | None = None) -> None:
        self._target = target
        self._open = partial(
            open_channel, max_message_bytes=max_message_bytes, max_silence=MESH_SILENCE_SECONDS, tls=tls
        )
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._backends: dict[str, TrackerBackend] = {}
        self._addresses: Sequence[str] = ()
        self._resolved_at = 0.0
        self._next_tracker = 0

    def backend(self, address: str) -> TrackerBackend:
        """The tracker at an address."""
        if address not in self._backends:
            self._channels[address] = self._open(address)
            self._backends[address] = TrackerBackend(self._channels[address], address)
        return self._backends[address]

    async def addresses(self) -> Sequence[str]:
        """The addresses of all trackers; the previous ones while the name cannot be resolved."""
        if time.monotonic() - self._resolved_at >= RESOLVE_SECONDS:
            try:
                self._addresses = await resolve(self._target)
            except OSError as error:
                logger.warning("the name %s cannot be resolved: %s", self._target, error)
            self._resolved_at = time.monotonic()
        return self._addresses

    async def choose(self, excluded: Collection[str] = ()) -> str:
        """The address of the least loaded tracker that is not in ``excluded``.

        Raises ResourceExhausted if every tracker has its maximum number of sessions, Unavailable if no
        tracker is reachable.
        """
        candidates = [a for a in await self.addresses() if a not in excluded]
        loads = await asyncio.gather(*(self.load(address) for address in candidates))
        accepting = [
            (load.propagating, load.sessions, random.random(), address)
            for address, load in zip(candidates, loads, strict=True)
            if load is not None and not load.draining and load.sessions < load.max_sessions
        ]
        if not accepting:
            if any(load is not None and not load.draining for load in loads):
                raise ResourceExhausted(
                    "every tracker has its maximum number of sessions",
                    resource="sessions",
                    retry_seconds=retry_after(SESSION_SECONDS),
                )
            raise Unavailable("no tracker accepts sessions", service="tracker")
        return min(accepting)[-1]

    async def choose_for_points(self, excluded: Collection[str] = ()) -> str:
        """The address of the tracker that follows the fewest points and is not in ``excluded``.

        Sessions do not count: points need none.  Raises Unavailable if no tracker is reachable.
        """
        candidates = [a for a in await self.addresses() if a not in excluded]
        loads = await asyncio.gather(*(self.load(address) for address in candidates))
        accepting = [
            (load.points, load.propagating, random.random(), address)
            for address, load in zip(candidates, loads, strict=True)
            if load is not None and not load.draining
        ]
        if not accepting:
            raise Unavailable("no tracker follows points", service="tracker")
        return min(accepting)[-1]

    async def call_any(self, method: str, request: Message, timeout: float | None) -> TimedResponse:
        """The response of a method that needs no session: ``SegmentImage``, ``SegmentConcepts``,
        ``SegmentGrid`` or ``TokenizeMotion``.

        Trackers are used round-robin; if one is unreachable, the next one is called.
        """
        addresses = await self.addresses()
        self._next_tracker += 1
        for attempt in range(len(addresses)):
            address = addresses[(self._next_tracker + attempt) % len(addresses)]
            try:
                return await self.backend(address).timed_call(method, request, timeout)
            except Unavailable:
                if attempt == len(addresses) - 1:
                    raise
        raise Unavailable("the gateway has no tracker addresses", service="tracker")

    async def model(self) -> ModelInfo:
        """The trackers' model.  Raises Unavailable if no tracker responds."""
        for address in await self.addresses():
            with contextlib.suppress(MaskmeshError, grpc.RpcError):
                return await self.backend(address).model(PROBE_SECONDS)
        raise Unavailable("no tracker responds", service="tracker")

    async def load(self, address: str) -> Load | None:
        """The load of a tracker; None if it does not respond in time."""
        try:
            return await self.backend(address).load(PROBE_SECONDS)
        except (MaskmeshError, grpc.RpcError):
            return None

    async def statuses(self, timeout: float) -> list[ServiceStatus]:
        """The state of each tracker; one that does not answer in ``timeout`` seconds has an error."""

        async def status_of(address: str) -> Any:
            request = tracker_pb2.GetTrackerStatusRequest()
            return (await self.backend(address).call("GetTrackerStatus", request, timeout)).status

        return await statuses_of("tracker", await self.addresses(), status_of)

    async def close(self) -> None:
        """Close the connections."""
        for channel in self._channels.values():
            await channel.close()
