"""Letting go of embeddings that a session no longer works on."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Collection, Sequence

import grpc

from gateway.backends.encoders import Encoders
from gateway.sessions.session import GatewaySession
from maskmesh.errors import MaskmeshError
from maskmesh.types import EmbeddingRef

logger = logging.getLogger(__name__)

# Pins are released in batches: they also expire, and a call for each frame costs more than it frees.
BATCH = 8

# The event loop holds tasks weakly: somebody must hold them until they are done.
_releasing: set["asyncio.Task[None]"] = set()


class Pins:
    """The pins of one session."""

    def __init__(self, encoders: Encoders, session: GatewaySession) -> None:
        self._encoders = encoders
        self._session = session
        self._keys: dict[str, list[str]] = defaultdict(list)  # by replica

    def release(self, ref: EmbeddingRef) -> None:
        """Release one soon, beside everything else."""
        keys = self._keys[ref.address]
        keys.append(ref.key)
        if len(keys) >= BATCH:
            self._release(ref.address, self._keys.pop(ref.address))

    def release_all(self) -> None:
        """Release all of the session, beside everything else."""
        for address in self._session.encoder_addresses:
            self._release(address, ())

    def _release(self, address: str, keys: Sequence[str]) -> None:
        task = asyncio.ensure_future(unpin(self._encoders, self._session, [address], keys))
        _releasing.add(task)
        task.add_done_callback(_releasing.discard)


async def unpin(
    encoders: Encoders, session: GatewaySession, addresses: Collection[str], keys: Sequence[str] = ()
) -> None:
    """Release pins of a session in some replicas, without keys all of them.

    A failure is worth a line in the log and no more.
    """
    for address in addresses:
        try:
            await encoders.unpin(session.session_id, session.caller.tenant, address, keys)
        except (MaskmeshError, grpc.RpcError) as error:
            logger.info("pins of %s are left to expire: %s", session.session_id, error)
