"""Release of the pins that sessions have on embeddings."""

import logging
from collections import defaultdict
from collections.abc import Collection, Sequence

import grpc

from gateway.backends.encoders import Encoders
from gateway.sessions.session import GatewaySession
from maskmesh import telemetry
from maskmesh.aio import TaskSet
from maskmesh.errors import MaskmeshError
from maskmesh.types import EmbeddingRef

logger = logging.getLogger(__name__)

# Pins are released in batches: they also expire, and a call for each frame costs more than it frees.
BATCH = 8

_releases = TaskSet()


class Pins:
    """The pins of one session."""

    def __init__(self, encoders: Encoders, session: GatewaySession) -> None:
        self._encoders = encoders
        self._session = session
        self._keys: dict[str, list[str]] = defaultdict(list)  # by encoder address

    def release(self, ref: EmbeddingRef) -> None:
        """Release one pin soon, in the background."""
        keys = self._keys[ref.address]
        keys.append(ref.key)
        if len(keys) >= BATCH:
            self._release(ref.address, self._keys.pop(ref.address))

    def release_all(self) -> None:
        """Release all pins of the session, in the background."""
        for address in self._session.encoder_addresses:
            self._release(address, ())

    def _release(self, address: str, keys: Sequence[str]) -> None:
        _releases.spawn(unpin(self._encoders, self._session, [address], keys))


async def unpin(
    encoders: Encoders, session: GatewaySession, addresses: Collection[str], keys: Sequence[str] = ()
) -> None:
    """Release pins of a session at some encoders; without ``keys`` all of them.  Failures are logged."""
    with telemetry.background("release_pins"):
        for address in addresses:
            try:
                await encoders.unpin(session.session_id, session.caller.tenant, address, keys)
            except (MaskmeshError, grpc.RpcError) as error:
                logger.info("pins of session %s are left to expire: %s", session.session_id, error)
