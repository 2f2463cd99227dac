"""Letting go of embeddings that a session no longer works on."""

import asyncio
import logging

import grpc

from gateway.backends import EncoderBackend
from maskmesh.errors import MaskmeshError

logger = logging.getLogger(__name__)

# Pins are released in batches: they also expire, and a call for each frame costs more than it frees.
BATCH = 8

# The event loop holds tasks weakly: somebody must hold them until they are done.
_releasing: set["asyncio.Task[None]"] = set()


class Pins:
    """The pins of one stream's session."""

    def __init__(self, encoder: EncoderBackend, owner: str) -> None:
        self._encoder = encoder
        self._owner = owner
        self._keys: list[str] = []

    def release(self, key: str) -> None:
        """Release one soon, beside everything else."""
        self._keys.append(key)
        if len(self._keys) >= BATCH:
            keys, self._keys = self._keys, []
            self._release(keys)

    def release_all(self) -> None:
        """Release all that the owner has, beside everything else."""
        self._release([])

    def _release(self, keys: list[str]) -> None:
        task = asyncio.ensure_future(unpin(self._encoder, self._owner, keys))
        _releasing.add(task)
        task.add_done_callback(_releasing.discard)


async def unpin(encoder: EncoderBackend, owner: str, keys: list[str]) -> None:
    """Release pins, without keys all of the owner's; a failure is worth a line in the log and no more."""
    try:
        await encoder.unpin(owner, keys)
    except (MaskmeshError, grpc.RpcError) as error:
        logger.info("pins of %s are left to expire: %s", owner, error)
