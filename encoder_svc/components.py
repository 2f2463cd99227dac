"""The components of an encoder: model, device, caches, shared memory."""

import asyncio
import logging
from dataclasses import dataclass

import torch

from encoder_svc.cache import EmbeddingCache
from encoder_svc.config import EncoderSettings
from encoder_svc.encoder import Encoder
from encoder_svc.model import weights
from encoder_svc.model.config import PRESETS
from encoder_svc.redis_embedding_cache import RedisEmbeddingCache
from maskmesh.nn.loading import load_model
from maskmesh.rpc.addresses import reachable_address
from maskmesh.storage.redis_store import RedisStore
from maskmesh.storage.scratch import ScratchFolder
from maskmesh.storage.shared_memory import SHARED_MEMORY_FILE, SHARED_MEMORY_PREFIX, SharedArena

logger = logging.getLogger(__name__)

# Timeout of a lookup in the shared cache; a slower lookup would not save time.
SHARED_CACHE_SECONDS = 0.25
SHARED_CACHE_PAUSE_SECONDS = 10.0


@dataclass(slots=True, kw_only=True)
class Components:
    """The components of a running encoder, created by :func:`start`."""

    settings: EncoderSettings
    address: str
    """The address at which trackers reach this encoder."""
    encoder: Encoder
    cache: EmbeddingCache
    shared_cache: RedisEmbeddingCache | None
    """The cache that all encoder replicas share; None if it is not configured."""
    shared_memory: ScratchFolder | None
    """The folder of the shared memory; None if shared memory is not used."""

    async def close(self) -> None:
        """Stop the threads and delete the shared memory."""
        if self.shared_cache is not None:
            await self.shared_cache.close()
        await asyncio.to_thread(self.encoder.close)
        if self.shared_memory is not None:
            await asyncio.to_thread(self.shared_memory.close)


async def start(settings: EncoderSettings, port: int) -> Components:
    """Load the model, warm it up and create the caches; ``port`` is the port of the service.

    Raises CheckpointError, OSError.
    """
    loaded = await asyncio.to_thread(load_model, settings, PRESETS, weights.build)
    torch.set_num_threads(loaded.layout.threads)
    encoder = Encoder(loaded, settings)
    await encoder.warm_up()
    return Components(
        settings=settings,
        address=settings.advertise or reachable_address(settings.host, port),
        encoder=encoder,
        cache=EmbeddingCache(settings.cache_bytes, wait_seconds=settings.cache_wait_seconds),
        shared_cache=_shared_cache(settings),
        shared_memory=await asyncio.to_thread(_share_memory, encoder, settings),
    )


def _shared_cache(settings: EncoderSettings) -> RedisEmbeddingCache | None:
    if not settings.cache_url:
        return None
    redis = RedisStore(
        settings.cache_url,
        name="shared cache",
        timeout_seconds=SHARED_CACHE_SECONDS,
        max_pause=SHARED_CACHE_PAUSE_SECONDS,
    )
    return RedisEmbeddingCache(
        redis, budget_bytes=settings.shared_cache_bytes, ttl_seconds=settings.shared_cache_seconds
    )


def _share_memory(encoder: Encoder, settings: EncoderSettings) -> ScratchFolder | None:
    """Create the shared memory in which trackers on this machine read embeddings, if it is configured."""
    if settings.shared_memory_dir is None:
        return None
    try:
        folder = ScratchFolder(SHARED_MEMORY_PREFIX, settings.shared_memory_dir)
        encoder.arena = SharedArena(
            folder.path / SHARED_MEMORY_FILE,
            block_bytes=encoder.num_bytes,
            budget_bytes=settings.cache_bytes,
        )
    except OSError as error:
        logger.warning("shared memory is not used: %s", error)
        return None
    return folder
